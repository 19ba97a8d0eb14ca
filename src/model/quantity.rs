//! Kubernetes quantities (`10M`, `1.5Gi`, `2e6`) as whole numbers.
//!
//! The grammar is that of `k8s.io/apimachinery/pkg/api/resource`. Only what a bandwidth or a size can be
//! is of interest: a positive whole number below 2^63.

/// A text that is no quantity, or one too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAQuantity;

/// The quantity as a positive whole number; `None` if it is zero, negative or a fraction.
///
/// # Errors
///
/// [`NotAQuantity`].
pub fn whole(text: &str) -> Result<Option<u64>, NotAQuantity> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (before, after) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{before}{after}");
    // i128 holds 38 digits; what is of interest has fewer than 20.
    if digits.is_empty() || after.contains('.') || digits.len() > 36 {
        return Err(NotAQuantity);
    }
    let digits: i128 = digits.parse().map_err(|_| NotAQuantity)?;
    let fraction = u32::try_from(after.len()).map_err(|_| NotAQuantity)?;
    let (factor, divisor) = scale(suffix).ok_or(NotAQuantity)?;
    let scaled = digits.checked_mul(factor).ok_or(NotAQuantity)?;
    let divisor = 10_i128
        .checked_pow(fraction)
        .and_then(|below| below.checked_mul(divisor))
        .ok_or(NotAQuantity)?;
    if negative || scaled == 0 || scaled % divisor != 0 {
        return Ok(None);
    }
    let value = i64::try_from(scaled / divisor).map_err(|_| NotAQuantity)?;
    Ok(u64::try_from(value).ok())
}

/// What the suffix multiplies with and divides by.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    const DECIMAL: &str = "kMGTPE";
    let power = |base: i128, exponent: usize| base.checked_pow(u32::try_from(exponent).ok()?);
    match suffix {
        "" => return Some((1, 1)),
        "n" => return Some((1, 1_000_000_000)),
        "u" => return Some((1, 1_000_000)),
        "m" => return Some((1, 1_000)),
        _ => {}
    }
    if let Some(place) = suffix.strip_suffix('i') {
        let place = if place.len() == 1 { "KMGTPE".find(place)? } else { return None };
        return Some((power(1024, place.checked_add(1)?)?, 1));
    }
    if suffix.len() == 1
        && let Some(place) = DECIMAL.find(suffix)
    {
        return Some((power(1000, place.checked_add(1)?)?, 1));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let size = power(10, usize::try_from(exponent.unsigned_abs()).ok()?)?;
    Some(if exponent < 0 { (1, size) } else { (size, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("1", Ok(Some(1))),
            ("+10M", Ok(Some(10_000_000))),
            ("1.5k", Ok(Some(1500))),
            ("1.5Ki", Ok(Some(1536))),
            ("10Mi", Ok(Some(10 * 1024 * 1024))),
            ("2e6", Ok(Some(2_000_000))),
            ("2E+3", Ok(Some(2000))),
            ("1E", Ok(Some(1_000_000_000_000_000_000))),
            ("5000m", Ok(Some(5))),
            (".5k", Ok(Some(500))),
            ("5.", Ok(Some(5))),
            ("100m", Ok(None)),
            ("0", Ok(None)),
            ("-5M", Ok(None)),
            ("", Err(NotAQuantity)),
            (".", Err(NotAQuantity)),
            ("M", Err(NotAQuantity)),
            ("1.2.3", Err(NotAQuantity)),
            ("1K", Err(NotAQuantity)),
            ("1MM", Err(NotAQuantity)),
            ("1i", Err(NotAQuantity)),
            ("10 M", Err(NotAQuantity)),
            ("10E", Err(NotAQuantity)),
            ("1e99", Err(NotAQuantity)),
            ("é", Err(NotAQuantity)),
            ("99999999999999999999999999999999999999999", Err(NotAQuantity)),
        ] {
            assert_eq!(whole(text), expected, "{text}");
        }
    }
}
