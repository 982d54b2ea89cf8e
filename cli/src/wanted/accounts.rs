//! Numbers of users and groups, from the files that a machine has before its network.
//!
//! The command is linked statically, so the C library's lookup, which loads other libraries, is not to be had.

use std::fs;

/// Users.
pub const USERS: Accounts = Accounts {
    what: "user",
    file: "/etc/passwd",
};
/// Groups.
pub const GROUPS: Accounts = Accounts {
    what: "group",
    file: "/etc/group",
};

/// A list of names and numbers; the number is the third field of a line (passwd(5), group(5)).
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    what: &'static str,
    file: &'static str,
}

/// The number that stands for nobody (`INVALID_UID` of `include/linux/uidgid.h`).
const INVALID: u32 = u32::MAX;

/// A number that a user or a group can have.
pub fn valid(number: u64) -> Option<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number != INVALID)
}

/// The number of a name; digits are a number themselves.
pub fn number(accounts: Accounts, name: &str) -> Result<u32, String> {
    let Accounts { what, file } = accounts;
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = name.parse().ok().and_then(valid);
        return number
            .ok_or_else(|| format!("{name} is no number of a {what}; write a smaller one"));
    }
    let text = fs::read_to_string(file).map_err(|error| {
        format!("the {what} '{name}' is looked for in {file}, which cannot be read ({error}); write the number")
    })?;
    find(&text, name).ok_or_else(|| {
        format!("there is no {what} '{name}' in {file}; add it there, or write the number")
    })
}

fn find(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1))??
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_third_field() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n+::::::\nrooty:x:7:8::/:/bin/sh\n";
        assert_eq!(find(passwd, "root"), Some(0));
        assert_eq!(find(passwd, "rooty"), Some(7));
        assert_eq!(find(passwd, "roo"), None);
        assert_eq!(find(passwd, "+"), None);
        assert_eq!(find("mapbuf:x:994:member\n", "mapbuf"), Some(994));
    }

    #[test]
    fn digits_are_numbers() {
        assert_eq!(number(USERS, "1000"), Ok(1000));
        assert!(number(USERS, "4294967295").unwrap_err().contains("smaller"));
        assert!(number(GROUPS, "no such group")
            .unwrap_err()
            .contains("/etc/group"));
        assert!(number(GROUPS, "").is_err());
    }
}
