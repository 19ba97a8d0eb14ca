//! containers-storage.conf(5): where the store lies that is shared with podman, skopeo and buildah.
//!
//! Only what decides where and how the store is mounted is read; the rest of that file speaks to
//! other programs.

use std::path::Path;

use toml_edit::Item;

use super::error::ConfigError;
use super::error::Source;
use super::file::line_of;
use super::file::parse;
use super::layers::Values;
use super::tables::Root;
use super::value::Value;

/// Lays the text of the storage.conf file at `path` over the defaults.
///
/// # Errors
///
/// [`ConfigError::Syntax`], and [`ConfigError::Value`] for a value that is no string.
pub(super) fn apply(values: &mut Values, path: &Path, text: &str) -> Result<(), ConfigError> {
    let document = parse(path, text)?;
    let Some(storage) = document.as_table().get("storage") else { return Ok(()) };
    let text_of = |item: &Item, key: &str| match item.as_str() {
        Some(found) => Ok((found.to_owned(), place(path, text, item))),
        None => Err(ConfigError::Value {
            place: place(path, text, item),
            key: key.to_owned(),
            wanted: "a string".to_owned(),
            found: item.to_string().trim().to_owned(),
        }),
    };
    for (theirs, ours) in [
        ("graphroot", "root"),
        ("runroot", "runroot"),
        ("driver", "storage_driver"),
        ("imagestore", "imagestore"),
    ] {
        let Some(item) = storage.get(theirs) else { continue };
        let (found, source) = text_of(item, &format!("storage.{theirs}"))?;
        if !found.is_empty() {
            values.put(Root::TABLE, ours, Value::Text(found), source);
        }
    }
    let Some(options) = storage.get("options") else { return Ok(()) };
    let overlay = options.get("overlay");
    for option in
        ["mountopt", "mount_program", "size", "inodes", "ignore_chown_errors", "force_mask"]
    {
        // The driver's own table goes before the older, common place.
        let inner = overlay.and_then(|overlay| overlay.get(option));
        let Some(item) = inner.or_else(|| options.get(option)) else { continue };
        let (found, source) = text_of(item, &format!("storage.options.{option}"))?;
        if !found.is_empty() {
            let joined = values.joined_options(&[format!("overlay.{option}={found}")]);
            values.put(Root::TABLE, "storage_option", Value::List(joined), source);
        }
    }
    Ok(())
}

fn place(path: &Path, text: &str, item: &Item) -> Source {
    let start = item.span().map_or(0, |span| span.start);
    Source::File { path: path.to_owned(), line: line_of(text, start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_mount_options_are_taken() {
        let text = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/g\"\nrunroot = \"\"\n\
                    [storage.options]\nmountopt = \"nodev\"\n\
                    [storage.options.overlay]\nmountopt = \"nodev,metacopy=on\"\n";
        let mut values = Values::default();
        apply(&mut values, Path::new("/s"), text).unwrap();
        assert_eq!(values.value("crio", "root"), Some(&Value::Text("/g".into())));
        assert_eq!(values.source("crio", "root").to_string(), "/s:3");
        assert_eq!(values.value("crio", "runroot"), None);
        let options = Value::List(vec!["overlay.mountopt=nodev,metacopy=on".into()]);
        assert_eq!(values.value("crio", "storage_option"), Some(&options));
    }

    #[test]
    fn a_wrong_type_is_placed() {
        let fault = apply(&mut Values::default(), Path::new("/s"), "[storage]\ngraphroot = 1\n");
        assert_eq!(
            fault.unwrap_err().to_string(),
            "/s:2: storage.graphroot must be a string, not 1"
        );
    }
}
