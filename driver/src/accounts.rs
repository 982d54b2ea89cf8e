// SPDX-License-Identifier: GPL-2.0

//! Who holds how much. A charge is made before memory is allocated. It belongs to the buffer until the
//! buffer's last user is gone, even when its id is freed earlier.
//!
//! Whoever opened the file pays, and with them the owners of the user namespaces that they were in: a namespace has
//! 65,536 uids to give out, and what all of them hold is its owner's doing. A charge takes no lock; the lock is for the
//! list of users, which changes when files are opened and when the last buffer of a file is gone.

use crate::{
    abi::reason::Refusal,
    policy::limit::Limits,
    sys::{
        caller::param,
        credentials::Opener, //
        seam::{
            pause,
            Seam, //
        },
    },
    Driver,
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// The limits in force now.
pub(crate) fn limits() -> Limits {
    Limits::new(
        param::max_bytes(),
        param::max_bytes_per_user(),
        param::ram(),
    )
}

/// A sum that many processors change at once, on a cache line of its own.
#[repr(align(64))]
struct Sum(Atomic<u64>);

impl Sum {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Replaces the sum with the one that `f` computes from it.
    fn update(&self, f: impl Fn(u64) -> Result<u64, Refusal>) -> Result<(), Refusal> {
        let mut before = self.get();
        loop {
            match self.0.cmpxchg(before, f(before)?, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => before = now,
            }
        }
    }

    fn add(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn sub(&self, value: u64) {
        self.0.fetch_add(value.wrapping_neg(), Relaxed);
    }
}

/// A user who is charged.
struct User {
    uid: u32,
    used: Sum,
}

struct Entry {
    user: Arc<User>,
    /// How many lists of payers this user is in.
    lists: usize,
}

/// What is charged now.
#[pin_data]
pub(crate) struct Accounts {
    used: Sum,
    buffers: Sum,
    /// By uid: the users who may be charged, or are.
    #[pin]
    users: Mutex<RBTree<u32, Entry>>,
}

impl Accounts {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            used: Sum::new(),
            buffers: Sum::new(),
            users <- kernel::new_mutex!(RBTree::new(), "mapbuf_users"),
        })
    }

    /// Bytes charged to everybody.
    pub(crate) fn used(&self) -> u64 {
        self.used.get()
    }

    /// Buffers that exist.
    pub(crate) fn buffers(&self) -> u64 {
        self.buffers.get()
    }
}

/// The users who pay for what is allocated through one open file. The first is the user who opened it.
pub(crate) struct Payers {
    driver: Arc<Driver>,
    users: KVec<Arc<User>>,
}

impl Payers {
    /// For a file that is being opened.
    pub(crate) fn of(driver: &Arc<Driver>, opener: &Opener<'_>) -> Result<Arc<Self>> {
        let mut payers = Self::none(driver);
        opener.each_payer(|uid| payers.add(uid))?;
        Ok(Arc::new(payers, GFP_KERNEL_ACCOUNT)?)
    }

    /// For memory that is charged to nobody.
    pub(crate) fn nobody(driver: &Arc<Driver>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self::none(driver), GFP_KERNEL_ACCOUNT)?)
    }

    fn none(driver: &Arc<Driver>) -> Self {
        Self {
            driver: driver.clone(),
            users: KVec::new(),
        }
    }

    fn add(&mut self, uid: u32) -> Result {
        if self.users.iter().any(|user| user.uid == uid) {
            return Ok(());
        }
        // Not under the lock, which all users share: the caller's memory cgroup may be full.
        self.users.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let used = Sum::new();
        let new = Arc::new(User { uid, used }, GFP_KERNEL_ACCOUNT)?;
        let mut users = self.driver.accounts.users.lock();
        let user = match users.get_mut(&uid) {
            Some(entry) => {
                entry.lists += 1;
                entry.user.clone()
            }
            None => {
                let user = new.clone();
                users.insert(node.into_node(uid, Entry { user, lists: 1 }));
                new
            }
        };
        drop(users);
        // There is room.
        Ok(self.users.push(user, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whose limits they are charged against.
    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Bytes charged to the user who opened the file.
    pub(crate) fn used(&self) -> u64 {
        self.users.first().map_or(0, |user| user.used.get())
    }
}

impl Drop for Payers {
    fn drop(&mut self) {
        for user in &self.users {
            let mut users = self.driver.accounts.users.lock();
            let Some(entry) = users.get_mut(&user.uid) else {
                continue;
            };
            entry.lists -= 1;
            let last = entry.lists == 0;
            let gone = if last { users.remove(&user.uid) } else { None };
            drop(users);
            drop(gone);
        }
    }
}

/// A charge, given back when dropped.
pub(crate) struct Charge {
    payers: Arc<Payers>,
    bytes: u64,
}

impl Charge {
    /// Whose limits it counts against.
    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.payers.driver
    }

    /// Charges `bytes` to each payer.
    pub(crate) fn new(payers: &Arc<Payers>, bytes: u64) -> Result<Self, Refusal> {
        let limits = limits();
        let accounts = &payers.driver.accounts;
        accounts.used.update(|used| limits.charge(bytes, used))?;
        let charged = |user: &User| {
            let uid = user.uid;
            user.used
                .update(|used| limits.charge_user(bytes, used, uid))
        };
        for (at, user) in payers.users.iter().enumerate() {
            if let Err(refusal) = charged(user) {
                payers
                    .users
                    .iter()
                    .take(at)
                    .for_each(|user| user.used.sub(bytes));
                accounts.used.sub(bytes);
                return Err(refusal);
            }
        }
        accounts.buffers.add(1);
        pause(Seam::Charged);
        Ok(Self {
            payers: payers.clone(),
            bytes,
        })
    }
}

impl Charge {
    /// Reduces the charge to `bytes`.
    pub(crate) fn reduce(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.payers.driver.accounts.used.sub(less);
        for user in &self.payers.users {
            user.used.sub(less);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        pause(Seam::Uncharging);
        self.reduce(0);
        self.payers.driver.accounts.buffers.sub(1);
    }
}
