// SPDX-License-Identifier: GPL-2.0

//! The regions that the module's parameter declares: each becomes a named buffer when the module loads,
//! or stays on the list with the reason why not.

use crate::{
    abi::{
        reason::Refusal,
        wire::{
            self,
            RegionState,
            ADDRESS_HIDDEN, //
        },
    },
    accounts::Payers,
    buffer::{
        Buffer,
        Freed,
        Visible, //
    },
    memory::{
        region::Knowledge,
        Memory,
        Region, //
    },
    named,
    policy::{
        region::{
            declarations,
            Declared, //
        },
        request,
    },
    sys::{
        caller::param,
        node::Ownership, //
    },
    Driver,
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// Regions that may be declared.
const MOST: usize = 64;

struct Entry {
    declared: Declared,
    knowledge: Arc<Knowledge>,
    refusal: Option<Refusal>,
}

/// All regions that were declared.
pub(crate) struct Regions(KVec<Entry>);

impl Regions {
    /// Reads the declarations.
    pub(crate) fn declared() -> Result<Self> {
        let text = param::regions().to_str().map_err(|_| EINVAL)?;
        let mut list = KVec::new();
        for declared in declarations(text, PAGE_SIZE as u64) {
            let declared = declared.map_err(|malformed| {
                pr_err!(
                    "regions=: at byte {} expected {}\n",
                    malformed.at,
                    malformed.expected
                );
                EINVAL
            })?;
            if list.len() == MOST {
                pr_err!("regions=: at most {} can be declared\n", MOST);
                return Err(EINVAL);
            }
            list.push(
                Entry {
                    declared,
                    knowledge: Arc::new(Knowledge::new(), GFP_KERNEL)?,
                    refusal: None,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(Self(list))
    }

    /// Registers all of them. A refusal stays with its region and is logged once.
    pub(crate) fn register(&mut self, driver: &Arc<Driver>) {
        for entry in &mut self.0 {
            let text = request::name(&entry.declared.name).unwrap_or_default();
            let text = core::str::from_utf8(text).unwrap_or_default();
            match register(driver, entry, text) {
                Ok(()) => {
                    let state = entry.knowledge.state();
                    if state.is_bad() {
                        pr_warn!("region {text}: {}\n", state.name());
                    }
                }
                Err(refusal) => {
                    pr_warn!("region {text}: refused, {}\n", refusal.reason.name());
                    entry.knowledge.set(RegionState::Refused);
                    entry.refusal = Some(refusal);
                }
            }
        }
    }

    /// Fills in what is known about the region whose number is in `to`.
    pub(crate) fn tell(&self, to: &mut wire::Region) {
        to.count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let Some(entry) = self.0.get(to.index as usize) else {
            return;
        };
        let declared = &entry.declared;
        to.bytes = declared.bytes;
        to.start = if Visible::to_caller().physical {
            declared.start
        } else {
            ADDRESS_HIDDEN
        };
        to.class = declared.class.number();
        to.cache = declared.cache.number();
        to.width = declared.width;
        to.state = entry.knowledge.state().number();
        to.name = declared.name;
        if let Some(refusal) = entry.refusal {
            to.reason = refusal.reason.number();
            to.errno = refusal.reason.errno();
            to.operands = refusal.operands;
        }
    }
}

fn register(driver: &Arc<Driver>, entry: &Entry, name: &str) -> Result<(), Refusal> {
    let region = Region::new(&entry.declared, name, entry.knowledge.clone())?;
    let no_memory = crate::abi::reason::Reason::OutOfMemory.with(&[PAGE_SIZE as u64]);
    let freed = Arc::new(Freed::new(), GFP_KERNEL).map_err(|_| no_memory)?;
    let nobody = Payers::nobody(driver).map_err(|_| no_memory)?;
    let buffer = Buffer::of_region(&nobody, &freed, Memory::Region(region))?;
    let ownership = Ownership {
        uid: 0,
        gid: 0,
        mode: 0o660,
    };
    named::name_region(driver, buffer, &entry.declared.name, ownership)
}
