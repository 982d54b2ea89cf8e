//! Makes a program short that shows a difference.

/// Leaves out as many items as can be left out while `shows` still says that the rest shows the same.
///
/// `shows` is asked at most `most` times. First large pieces are tried, then smaller ones, down to single items, until
/// nothing more can be left out.
pub fn shrink<T: Clone>(items: &[T], most: usize, mut shows: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut kept = items.to_vec();
    let mut asked = 0;
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let before = kept.len();
        // From the end: what comes last depends on what comes first.
        let mut end = kept.len();
        while end > 0 {
            if asked >= most {
                return kept;
            }
            let start = end.saturating_sub(size);
            let mut candidate = kept.get(..start).unwrap_or_default().to_vec();
            candidate.extend_from_slice(kept.get(end..).unwrap_or_default());
            asked += 1;
            if shows(&candidate) {
                kept = candidate;
            }
            end = start;
        }
        if size == 1 && kept.len() == before {
            return kept;
        }
        size = (size / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_stays() {
        let all: Vec<u32> = (0..1000).collect();
        let needed = [3, 500, 501, 999];
        let mut asked = 0;
        let kept = shrink(&all, 1000, |items| {
            asked += 1;
            needed.iter().all(|item| items.contains(item))
        });
        assert_eq!(kept, needed);
        assert!(asked < 200, "{asked}");
    }

    #[test]
    fn it_ends_when_it_has_asked_enough() {
        let all: Vec<u32> = (0..1000).collect();
        let kept = shrink(&all, 5, |items| items.contains(&7));
        assert!(kept.len() < 1000 && kept.contains(&7));
    }
}
