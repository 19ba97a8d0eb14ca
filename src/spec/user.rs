//! Who a container runs as: the request, the image's own wish, and the image's user files.
//!
//! `/etc/passwd` and `/etc/group` are bytes of the image: read up to a limit, line by line, and
//! what does not parse is not there. A number is always an id, never a name: else a line
//! `1000:x:0:0` in an image would turn `runAsUser: 1000` into root.

use std::collections::BTreeSet;
use std::str::from_utf8;

use crate::model::security::RunAs;
use crate::model::security::SupplementalGroupsPolicy;
use crate::spec::error::SpecError;

/// The most bytes of a user file that are read (CVE-2025-4437).
pub const LARGEST_FILE: usize = 1 << 20;

/// The most groups the kernel gives a process (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 65_536;

/// The highest id. Above it, signed arithmetic in a runtime wraps round, and the highest number of
/// all means "leave as it is" to the kernel: root (CVE-2024-40635).
const HIGHEST_ID: u32 = i32::MAX as u32;

/// Who the process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the process's own group first (CVE-2022-2995).
    pub additional_gids: Vec<u32>,
    /// Home directory: the one given, the passwd line's, or `/`.
    pub home: String,
    /// The user's name; empty when it has none.
    pub username: String,
    /// The line to put at the end of `/etc/passwd`, where the image has the file and not the user.
    pub passwd_line: Option<String>,
    /// The line to put at the end of `/etc/group`, where the image has the file and not the group.
    pub group_line: Option<String>,
}

/// The user files of an image; `None` where the image has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserFiles<'a> {
    /// `/etc/passwd`.
    pub passwd: Option<&'a [u8]>,
    /// `/etc/group`.
    pub group: Option<&'a [u8]>,
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Finds out who the process is.
///
/// A name in the request wins over an id in the request, and that over the image's `user:group`.
/// `home` is what the environment sets ([`crate::spec::process::home`]).
///
/// # Errors
///
/// [`SpecError::Field`] for an id out of range, or a group without a user;
/// [`SpecError::NoSuchUser`], [`SpecError::NoSuchGroup`]; [`SpecError::TooLarge`] for a file above
/// [`LARGEST_FILE`].
pub fn resolve(
    request: &RunAs,
    image_user: &str,
    home: Option<&str>,
    files: UserFiles<'_>,
) -> Result<ResolvedUser, SpecError> {
    if request.group.is_some() && request.user.is_none() && request.username.is_empty() {
        return Err(SpecError::field("run_as_group", "", "is given without a user"));
    }
    let accounts = accounts(files.passwd)?;
    let groups = groups(files.group)?;
    let wish = match (request.username.as_str(), request.user) {
        ("", None) => image_user.to_owned(),
        ("", Some(uid)) => uid.to_string(),
        (name, _) => name.to_owned(),
    };
    let (user, group) = wish.split_once(':').unwrap_or((&wish, ""));
    let account = account(user, &accounts)?;
    let (uid, mut gid) = (account.uid, account.gid);
    let mut of_image = BTreeSet::new();
    if !group.is_empty() {
        gid = group_id(group, &groups)?;
    } else if !account.name.is_empty() {
        let member = |group: &&Group| group.members.contains(&account.name);
        of_image = groups.iter().filter(member).map(|group| group.gid).collect();
    }
    let passwd_line = passwd_line(user, (uid, gid), home, &accounts, files.passwd);
    if let Some(asked) = request.group {
        gid = in_range("run_as_group", asked)?;
    }
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids: additional(gid, of_image, request)?,
        home: home.map_or(account.home, str::to_owned),
        username: account.name,
        passwd_line,
        group_line: group_line(gid, &groups, files.group),
    })
}

fn in_range(field: &'static str, id: u32) -> Result<u32, SpecError> {
    if id > HIGHEST_ID {
        return Err(SpecError::field(field, &id.to_string(), "is above the highest id"));
    }
    Ok(id)
}

/// Reads a number as an id. `None` is a name; a number out of range is an error, not a name.
fn number(field: &'static str, text: &str) -> Result<Option<u32>, SpecError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse().ok().filter(|id| *id <= HIGHEST_ID) {
        Some(id) => Ok(Some(id)),
        None => Err(SpecError::field(field, text, "is above the highest id, or below zero")),
    }
}

fn account(user: &str, accounts: &[Account]) -> Result<Account, SpecError> {
    let uid = if user.is_empty() { Some(0) } else { number("user", user)? };
    let found = accounts.iter().find(|account| match uid {
        Some(uid) => account.uid == uid,
        None => account.name == user,
    });
    match (found, uid) {
        (Some(found), _) => Ok(Account {
            name: found.name.clone(),
            home: found.home.clone(),
            uid: found.uid,
            gid: found.gid,
        }),
        (None, Some(uid)) => Ok(Account { name: String::new(), uid, gid: 0, home: "/".into() }),
        (None, None) => Err(SpecError::NoSuchUser { user: user.chars().take(128).collect() }),
    }
}

fn group_id(group: &str, groups: &[Group]) -> Result<u32, SpecError> {
    if let Some(gid) = number("group", group)? {
        return Ok(gid);
    }
    let found = groups.iter().find(|known| known.name == group);
    found
        .map(|known| known.gid)
        .ok_or_else(|| SpecError::NoSuchGroup { group: group.chars().take(128).collect() })
}

fn additional(gid: u32, of_image: BTreeSet<u32>, request: &RunAs) -> Result<Vec<u32>, SpecError> {
    let mut gids = vec![gid];
    let of_image = match request.groups_policy {
        SupplementalGroupsPolicy::Merge => of_image,
        SupplementalGroupsPolicy::Strict => BTreeSet::new(),
    };
    let mut seen = BTreeSet::from([gid]);
    for group in of_image.into_iter().chain(request.supplemental_groups.iter().copied()) {
        if seen.insert(in_range("supplemental_groups", group)?) {
            gids.push(group);
        }
    }
    if gids.len() > MOST_GROUPS {
        let count = gids.len().to_string();
        return Err(SpecError::field("supplemental_groups", &count, "is more than a process has"));
    }
    Ok(gids)
}

/// Gives the line for a user that the image's file does not have, as CRI-O writes it.
fn passwd_line(
    user: &str,
    (uid, gid): (u32, u32),
    home: Option<&str>,
    accounts: &[Account],
    file: Option<&[u8]>,
) -> Option<String> {
    if file.is_none_or(<[u8]>::is_empty) || accounts.iter().any(|account| account.uid == uid) {
        return None;
    }
    // Not as it was written: a line that begins with a sign means something else (`+` in nss_compat).
    let name = if user.is_empty() { "default".to_owned() } else { uid.to_string() };
    // A colon or control character would shift the fields or add a line; the environment keeps the
    // text, the file gets the root.
    let plain = |home: &&str| !home.contains(':') && !home.chars().any(char::is_control);
    let home = home.filter(plain).unwrap_or("/");
    Some(format!("{name}:x:{uid}:{gid}:{name} user:{home}:/sbin/nologin"))
}

fn group_line(gid: u32, groups: &[Group], file: Option<&[u8]>) -> Option<String> {
    let known = groups.iter().any(|group| group.gid == gid);
    (file.is_some() && !known).then(|| format!("{gid}:x:{gid}:"))
}

fn lines<'a>(
    what: &'static str,
    file: Option<&'a [u8]>,
) -> Result<impl Iterator<Item = Vec<&'a str>>, SpecError> {
    let bytes = file.unwrap_or_default();
    if bytes.len() > LARGEST_FILE {
        return Err(SpecError::TooLarge { what, size: bytes.len(), most: LARGEST_FILE });
    }
    let fields = |line: &'a [u8]| Some(from_utf8(line).ok()?.trim().split(':').collect());
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(fields))
}

fn accounts(file: Option<&[u8]>) -> Result<Vec<Account>, SpecError> {
    let account = |fields: Vec<&str>| {
        let (name, uid, gid) = (fields.first()?, fields.get(2)?, fields.get(3)?);
        let home = fields.get(5).copied().filter(|home| home.starts_with('/')).unwrap_or("/");
        let id = |text: &str| text.parse().ok().filter(|id| *id <= HIGHEST_ID);
        let (uid, gid) = (id(uid)?, id(gid)?);
        Some(Account { name: plain_name(name)?, uid, gid, home: home.to_owned() })
    };
    Ok(lines("/etc/passwd of the image", file)?.filter_map(account).collect())
}

fn groups(file: Option<&[u8]>) -> Result<Vec<Group>, SpecError> {
    let group = |fields: Vec<&str>| {
        let (name, gid) = (fields.first()?, fields.get(2)?);
        let members = fields.get(3).copied().unwrap_or_default();
        let members = members.split(',').filter_map(plain_name).collect();
        let gid = gid.parse().ok().filter(|id| *id <= HIGHEST_ID)?;
        Some(Group { name: plain_name(name)?, gid, members })
    };
    Ok(lines("/etc/group of the image", file)?.filter_map(group).collect())
}

fn plain_name(name: &str) -> Option<String> {
    let plain = !name.is_empty() && !name.chars().any(char::is_control);
    plain.then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
