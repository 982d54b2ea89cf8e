// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What may be charged: the limit for all users together and the limit for each user. Also how many buffers and names
//! there may be.

use super::abi::reason::{
    Reason,
    Refusal, //
};

/// A limit with this value means the default, a share of the machine's memory.
pub const DEFAULT: u64 = 0;

/// The limits in force, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// For all users together.
    pub all: u64,
    /// For each user.
    pub user: u64,
}

impl Limits {
    /// The limits for these parameters ([`DEFAULT`] or bytes) on a machine with `ram` bytes of memory.
    ///
    /// The default is half of the memory for all users together, and the same for each: a machine with one
    /// program needs no setting, one with several users sets `max_bytes_per_user`.
    pub fn new(all: u64, user: u64, ram: u64) -> Self {
        let all = if all == DEFAULT { ram / 2 } else { all };
        let user = if user == DEFAULT { all } else { user };
        Self { all, user }
    }

    /// Checks that `bytes` more fit when `used` are charged to all users. Returns the new sum.
    ///
    /// # Errors
    ///
    /// [`Reason::OverLimit`].
    pub fn charge(&self, bytes: u64, used: u64) -> Result<u64, Refusal> {
        sum(bytes, used, self.all).ok_or(Reason::OverLimit.with(&[bytes, used, self.all]))
    }

    /// The same for one user, `uid`, who is charged `used` bytes.
    ///
    /// # Errors
    ///
    /// [`Reason::OverUserLimit`].
    pub fn charge_user(&self, bytes: u64, used: u64, uid: u32) -> Result<u64, Refusal> {
        let refusal = Reason::OverUserLimit.with(&[bytes, used, self.user, u64::from(uid)]);
        sum(bytes, used, self.user).ok_or(refusal)
    }
}

fn sum(bytes: u64, used: u64, limit: u64) -> Option<u64> {
    used.checked_add(bytes).filter(|sum| *sum <= limit)
}

/// Checks that a session with `buffers` buffers may have one more. The parameter allows `most`, and there are `ids` ids.
///
/// # Errors
///
/// [`Reason::TooManyBuffers`].
pub fn buffer(buffers: u32, most: u32, ids: u32) -> Result<(), Refusal> {
    one_more(buffers, most.min(ids), Reason::TooManyBuffers)
}

/// Checks that there may be one more name than `names`. The parameter allows `most`, and there are `minors` minor numbers.
///
/// # Errors
///
/// [`Reason::TooManyNames`].
pub fn name(names: u32, most: u32, minors: u32) -> Result<(), Refusal> {
    one_more(names, most.min(minors), Reason::TooManyNames)
}

fn one_more(there: u32, most: u32, reason: Reason) -> Result<(), Refusal> {
    if there < most {
        Ok(())
    } else {
        Err(reason.with(&[u64::from(there)]))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn defaults_are_shares_of_the_memory() {
        let limits = Limits::new(DEFAULT, DEFAULT, 8 << 30);
        assert_eq!((limits.all, limits.user), (4 << 30, 4 << 30));
        let limits = Limits::new(1 << 20, 4096, 8 << 30);
        assert_eq!((limits.all, limits.user), (1 << 20, 4096));
    }

    #[test]
    fn the_smaller_number_counts() {
        assert_eq!(buffer(2, 3, 9), Ok(()));
        assert_eq!(buffer(3, 3, 9), Err(Reason::TooManyBuffers.with(&[3])));
        assert_eq!(buffer(9, 99, 9), Err(Reason::TooManyBuffers.with(&[9])));
        assert_eq!(name(0, 1, 9), Ok(()));
        assert_eq!(name(0, 0, 9), Err(Reason::TooManyNames.with(&[0])));
        assert_eq!(name(9, 99, 9), Err(Reason::TooManyNames.with(&[9])));
    }

    proptest! {
        #[test]
        fn a_charge_never_passes_a_limit(bytes: u64, used: u64, all: u64, user: u64) {
            let limits = Limits { all, user };
            let fits = |limit: u64| u128::from(used) + u128::from(bytes) <= u128::from(limit);
            let over = Reason::OverLimit.with(&[bytes, used, all]);
            let expected = if fits(all) { Ok(used.wrapping_add(bytes)) } else { Err(over) };
            prop_assert_eq!(limits.charge(bytes, used), expected);
            let over = Reason::OverUserLimit.with(&[bytes, used, user, 7]);
            let expected = if fits(user) { Ok(used.wrapping_add(bytes)) } else { Err(over) };
            prop_assert_eq!(limits.charge_user(bytes, used, 7), expected);
        }
    }
}
