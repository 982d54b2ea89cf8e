//! What a physical range holds: read through `/dev/mem`, when a person asked for it.

use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::{fs::File, io, ptr};

/// A look at a range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sight {
    /// All bits that were read are ones.
    Ones,
    /// All are zeros.
    Zeros,
    /// Something answers.
    Answers,
}

/// Pages that are looked at, from the beginning.
const PAGES: usize = 16;

/// Reads one word of each of the first pages. The kernel refuses RAM, and what a driver has claimed for itself.
pub fn look(address: u64, length: u64) -> io::Result<Sight> {
    let page = rustix::param::page_size();
    let length = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(PAGES * page);
    let memory = File::open("/dev/mem")?;
    // SAFETY: the kernel chooses the place, so no memory of ours is touched.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::SHARED,
            &memory,
            address,
        )
    }?;
    let words = (0..length).step_by(page).map(|at| {
        let word = start.cast::<u8>().wrapping_add(at).cast::<u32>();
        // SAFETY: `at` is a multiple of the page size below `length`, so the word lies in the mapping, aligned.
        unsafe { word.read_volatile() }
    });
    let sight = sum_up(words);
    // SAFETY: the mapping was made above, and nothing points into it any more.
    unsafe { munmap(start, length) }?;
    Ok(sight)
}

fn sum_up(words: impl Iterator<Item = u32>) -> Sight {
    let (all, any) = words.fold((u32::MAX, 0), |(all, any), word| (all & word, any | word));
    match (all, any) {
        (u32::MAX, _) => Sight::Ones,
        (_, 0) => Sight::Zeros,
        _ => Sight::Answers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_that_differs_is_an_answer() {
        assert_eq!(sum_up([u32::MAX, u32::MAX].into_iter()), Sight::Ones);
        assert_eq!(sum_up([0, 0].into_iter()), Sight::Zeros);
        assert_eq!(sum_up([0, u32::MAX].into_iter()), Sight::Answers);
    }
}
