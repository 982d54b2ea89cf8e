// SPDX-License-Identifier: GPL-2.0

//! Who holds how much: a charge is made before memory is gathered, and belongs to the buffer until its
//! last user is gone, whatever became of its id.

use crate::{
    abi::reason::Refusal,
    policy::limit::Limits,
    refusals,
    seam::{
        pause,
        Seam, //
    },
    sys::caller::{
        self,
        param, //
    },
    Driver,
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::Arc, //
};

/// The limits in force now.
pub(crate) fn limits() -> Limits {
    Limits::new(
        param::max_bytes(),
        param::max_bytes_per_user(),
        param::ram(),
    )
}

/// What is charged now.
pub(crate) struct Accounts {
    used: u64,
    buffers: u64,
    /// Bytes by uid; nobody who has none is in it.
    users: RBTree<u32, u64>,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        Self {
            used: 0,
            buffers: 0,
            users: RBTree::new(),
        }
    }

    /// Bytes charged to everybody.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes charged to one user.
    pub(crate) fn used_by(&self, uid: u32) -> u64 {
        self.users.get(&uid).copied().unwrap_or(0)
    }

    /// Buffers that exist.
    pub(crate) fn buffers(&self) -> u64 {
        self.buffers
    }
}

/// A charge, given back when dropped.
pub(crate) struct Charge {
    driver: Arc<Driver>,
    uid: u32,
    bytes: u64,
}

impl Charge {
    /// Whose limits it counts against.
    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Charges the calling user.
    pub(crate) fn new(driver: &Arc<Driver>, bytes: u64) -> Result<Self, Refusal> {
        let uid = caller::uid();
        let limits = limits();
        let mut reserved = None;
        let mut accounts = driver.accounts.lock();
        if accounts.users.get(&uid).is_none() {
            // Not under the lock, which all users share: the caller's memory cgroup may be full, and waiting
            // for memory there is the caller's affair.
            drop(accounts);
            let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
            let node = RBTreeNodeReservation::new(flags);
            reserved = Some(node.map_err(|_| refusals::no_memory(bytes, PAGE_SIZE as u64))?);
            accounts = driver.accounts.lock();
        }
        let (all, user) = limits.charge(bytes, accounts.used, accounts.used_by(uid), uid)?;
        match (accounts.users.get_mut(&uid), reserved) {
            (Some(used), _) => *used = user,
            (None, Some(node)) => {
                accounts.users.insert(node.into_node(uid, user));
            }
            // Not to be had: who was there under the first lock is there still, since it was not let go.
            (None, None) => return Err(refusals::no_memory(bytes, PAGE_SIZE as u64)),
        }
        accounts.used = all;
        accounts.buffers += 1;
        Ok(Self {
            driver: driver.clone(),
            uid,
            bytes,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        pause(Seam::Uncharging);
        let mut accounts = self.driver.accounts.lock();
        accounts.used = accounts.used.saturating_sub(self.bytes);
        accounts.buffers = accounts.buffers.saturating_sub(1);
        let left = accounts.used_by(self.uid).saturating_sub(self.bytes);
        if left == 0 {
            accounts.users.remove(&self.uid);
        } else if let Some(used) = accounts.users.get_mut(&self.uid) {
            *used = left;
        }
    }
}
