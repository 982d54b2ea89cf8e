//! Numbers of kernels and packages.

use std::cmp::Ordering;

/// Compares version numbers: runs of digits by value, all else by character.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn pieces(text: &str) -> Vec<(String, u64)> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(digits);
            let end = tail
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (number, tail) = tail.split_at(end);
            pieces.push((word.to_owned(), number.parse().unwrap_or(0)));
            rest = tail;
        }
        pieces
    }
    pieces(a).cmp(&pieces(b))
}

/// The number that kernel.org gave a release.
pub fn upstream(release: &str) -> &str {
    release.split(['+', '-']).next().unwrap_or(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(compare_versions("7.2.9", "7.2.12").is_lt());
        assert!(compare_versions("7.2.12-1~bpo13+2", "7.2.12-1~bpo13+1").is_gt());
    }
}
