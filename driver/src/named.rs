// SPDX-License-Identifier: GPL-2.0

//! Named buffers: a buffer with a node of its own, which stays until the name is taken away.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::CALLER,
    },
    buffer::{
        BufferRef,
        Name,
        Visible, //
    },
    counts::{
        Counted,
        Sort, //
    },
    policy::{
        limit,
        request,
        right, //
    },
    refusals,
    seam::{
        pause,
        Seam, //
    },
    sys::{
        caller::{
            self,
            param,
            Capability, //
        },
        chardev::MINORS,
        node::{
            Attribute,
            Attributes,
            Node,
            Ownership, //
        },
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
    str::CString, //
};

struct Named {
    name: Name,
    owner: u32,
    buffer: BufferRef,
    _node: Node<BufferAttributes>,
    _counted: Counted,
}

/// All named buffers, by the minor number of their node.
pub(crate) struct Names {
    by_minor: RBTree<u32, Named>,
    count: u32,
    /// Minor numbers go round, so that a stale inode does not mean another buffer soon.
    last_minor: u32,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            by_minor: RBTree::new(),
            count: 0,
            last_minor: crate::file::SYSTEM_MINOR,
        }
    }

    /// The buffer behind a node.
    pub(crate) fn buffer(&self, minor: u32) -> Option<BufferRef> {
        self.by_minor.get(&minor).map(|named| named.buffer.clone())
    }

    fn find(&self, name: &Name) -> Option<(u32, &Named)> {
        self.by_minor
            .iter()
            .find(|(_, named)| named.name == *name)
            .map(|(minor, named)| (*minor, named))
    }

    fn free_minor(&self) -> u32 {
        // There are far fewer names than minor numbers, so this ends.
        let mut minor = self.last_minor;
        loop {
            minor = (minor + 1) % MINORS;
            if minor != crate::file::SYSTEM_MINOR && self.by_minor.get(&minor).is_none() {
                return minor;
            }
        }
    }
}

/// The most names that there may ever be, whatever the parameter says.
const MOST_NAMES: u32 = MINORS / 2;

/// The owner of a new node, of those that the caller asks for.
fn ownership(uid: u32, gid: u32, mode: u32) -> Result<Ownership, Refusal> {
    let mode = request::mode(mode)?;
    let refused = right::not_to_be_given((uid, gid));
    let owner = match uid {
        CALLER => caller::uid(),
        uid => caller::map_uid(uid).ok_or(refused)?,
    };
    let group = match gid {
        CALLER => caller::gid(),
        gid => caller::map_gid(gid).ok_or(refused)?,
    };
    let own = owner == caller::uid() && (group == caller::gid() || caller::in_group(group));
    right::give_to((uid, gid), own, || caller::capable(Capability::Chown))?;
    Ok(Ownership {
        uid: owner,
        gid: group,
        mode,
    })
}

/// Gives a buffer a name and a node.
pub(crate) fn name(
    driver: &Driver,
    id: u32,
    buffer: BufferRef,
    field: &Name,
    (uid, gid, mode): (u32, u32, u32),
) -> Result<(), Refusal> {
    request::name(field)?;
    let ownership = ownership(uid, gid, mode)?;
    add(driver, id, buffer, field, ownership, param::max_names())
}

/// Gives a region its node, however many names `max_names` allows; it is one less for users.
pub(crate) fn name_region(
    driver: &Driver,
    buffer: BufferRef,
    field: &Name,
    ownership: Ownership,
) -> Result<(), Refusal> {
    add(driver, 0, buffer, field, ownership, MOST_NAMES).map_err(|refusal| match refusal.reason {
        Reason::NameTaken => Reason::RegionNameTaken.into(),
        _ => refusal,
    })
}

fn add(
    driver: &Driver,
    id: u32,
    buffer: BufferRef,
    field: &Name,
    ownership: Ownership,
    most: u32,
) -> Result<(), Refusal> {
    let text = request::name(field)?;
    let text = core::str::from_utf8(text).map_err(|_| Reason::NameInvalid)?;
    let no_memory = |_: Error| refusals::no_memory(buffer.bytes(), PAGE_SIZE as u64);

    // Not under the lock, which all users share: the caller's memory cgroup may be full.
    let reserved = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
    let mut names = driver.names.lock();
    if names.find(field).is_some() {
        return Err(Reason::NameTaken.into());
    }
    if buffer.name() != [0; _] {
        return Err(Reason::AlreadyNamed.with(&[u64::from(id)]));
    }
    limit::name(names.count, most, MOST_NAMES)?;
    pause(Seam::NameFree);
    let minor = names.free_minor();
    let node = Node::new(
        &driver.class,
        &driver.numbers,
        minor,
        CString::try_from_fmt(fmt!("named!{text}")).map_err(no_memory)?,
        CString::try_from_fmt(fmt!("mapbuf/named/{text}")).map_err(no_memory)?,
        ownership,
        Some(BufferAttributes(buffer.clone())),
    )
    .map_err(no_memory)?;
    pause(Seam::NodeMade);
    buffer.describe(fmt!("mapbuf {text}")).map_err(no_memory)?;
    buffer.set_name(Some(*field));
    names.by_minor.insert(reserved.into_node(
        minor,
        Named {
            name: *field,
            owner: ownership.uid,
            buffer,
            _node: node,
            _counted: Counted::new(Sort::Name),
        },
    ));
    names.count += 1;
    names.last_minor = minor;
    Ok(())
}

/// Takes a name and its node away. Who has the node open or mapped keeps the memory.
pub(crate) fn unname(driver: &Driver, field: &Name) -> Result<(), Refusal> {
    request::name(field)?;
    let mut names = driver.names.lock();
    let (minor, named) = names.find(field).ok_or(Reason::NameUnknown)?;
    right::unname(named.owner, caller::uid(), || {
        caller::capable(Capability::SysAdmin)
    })?;
    let kind = named.buffer.memory().kind().name();
    let no_memory = |_| Reason::OutOfMemory.with(&[named.buffer.bytes()]);
    let described = named.buffer.describe(fmt!("mapbuf {kind}"));
    described.map_err(no_memory)?;
    named.buffer.set_name(None);
    pause(Seam::HalfUnnamed);
    let named = names.by_minor.remove(&minor);
    names.count = names.count.saturating_sub(1);
    pause(Seam::NameGone);
    drop(named);
    Ok(())
}

/// What sysfs shows of a named buffer.
pub(crate) struct BufferAttributes(BufferRef);

impl Attributes for BufferAttributes {
    fn show(&self, attribute: Attribute) -> Result<CString> {
        let buffer = &self.0;
        let memory = buffer.memory();
        Ok(match attribute {
            Attribute::Size => CString::try_from_fmt(fmt!("{}", buffer.bytes()))?,
            Attribute::Kind => CString::try_from_fmt(fmt!("{}", memory.kind().name()))?,
            Attribute::Cache => CString::try_from_fmt(fmt!("{}", memory.cache().name()))?,
            Attribute::Mappings => CString::try_from_fmt(fmt!("{}", buffer.mappings()))?,
            Attribute::DmaAddress => {
                if !Visible::to_caller().dma {
                    return Err(EPERM);
                }
                let address = memory.backing().dma_address(0).ok_or(ENXIO)?;
                CString::try_from_fmt(fmt!("{address:#x}"))?
            }
        })
    }
}
