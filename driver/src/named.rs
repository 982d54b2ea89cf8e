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
    device::bound::BoundDevice,
    object::Object,
    policy::{
        limit,
        request,
        right, //
    },
    reach::{
        ForDevice,
        Kept,
        Reach, //
    },
    refusals,
    sys::{
        caller::{
            self,
            param,
            Capability, //
        },
        chardev::{
            FIRST_DEVICE_MINOR,
            MINORS,
            SYSTEM_MINOR, //
        },
        counts::{
            Counted,
            Sort, //
        },
        node::{
            Attribute,
            Attributes,
            Node,
            NodeName,
            Ownership, //
        },
        seam::{
            pause,
            Seam, //
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
    str::CString,
    sync::Arc, //
};

struct Named {
    owner: u32,
    buffer: BufferRef,
    /// Keeps the device's addresses.
    device: Option<ForDevice>,
    /// `None` while it is being made or taken away, which happens without the lock.
    node: Option<Node<BufferAttributes>>,
    _counted: Counted,
}

/// All named buffers.
pub(crate) struct Names {
    /// By the minor number of their node.
    by_minor: RBTree<u32, Named>,
    /// The minor number of each name.
    by_name: RBTree<Name, u32>,
    count: u32,
    /// Minor numbers are handed out round robin, so that a stale inode does not soon refer to another buffer.
    last_minor: u32,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            by_minor: RBTree::new(),
            by_name: RBTree::new(),
            count: 0,
            last_minor: SYSTEM_MINOR,
        }
    }

    /// The buffer behind a node, and what it has to do with a device.
    pub(crate) fn find(&self, minor: u32) -> Option<(BufferRef, Reach)> {
        let named = self.by_minor.get(&minor)?;
        Some((named.buffer.clone(), reach(named.device.as_ref())))
    }

    /// Takes a node of a buffer that is for this device.
    fn take_node_of(
        &mut self,
        device: &BoundDevice,
    ) -> Option<(u32, Name, Node<BufferAttributes>)> {
        let is_of = |named: &Named| {
            let is = |own: &ForDevice| core::ptr::eq(&**own.device(), device);
            named.node.is_some() && named.device.as_ref().is_some_and(is)
        };
        let found = self
            .by_name
            .iter()
            .find(|(_, minor)| self.by_minor.get(minor).is_some_and(is_of));
        let (name, minor) = found.map(|(name, minor)| (*name, *minor))?;
        let node = self.by_minor.get_mut(&minor)?.node.take()?;
        Some((minor, name, node))
    }

    fn free_minor(&self) -> u32 {
        // There are far fewer names than minor numbers, so this ends. The search starts behind the last number given
        // out, so each number in use is met once per round.
        let mut minor = self.last_minor;
        loop {
            minor = (minor + 1) % FIRST_DEVICE_MINOR;
            if minor != SYSTEM_MINOR && self.by_minor.get(&minor).is_none() {
                return minor;
            }
        }
    }

    /// Removes a name, whose node is gone, from the list.
    fn remove(&mut self, minor: u32, name: &Name) -> Option<Named> {
        self.by_name.remove(name);
        let named = self.by_minor.remove(&minor)?;
        named.buffer.set_name(None);
        self.count = self.count.saturating_sub(1);
        Some(named)
    }
}

/// What a named buffer has to do with a device.
fn reach(device: Option<&ForDevice>) -> Reach {
    device.map_or(Reach::new(None, None), ForDevice::reach)
}

/// The upper limit for names, whatever the parameter says.
const MOST_NAMES: u32 = MINORS / 2;

/// The owner of a new node, checked against what the caller may ask for.
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

/// Gives a buffer a name and a node. The name keeps the addresses that a device has for it.
pub(crate) fn name(
    driver: &Driver,
    id: u32,
    buffer: BufferRef,
    kept: Option<Arc<Kept>>,
    field: &Name,
    (uid, gid, mode): (u32, u32, u32),
) -> Result<(), Refusal> {
    request::name(field)?;
    let ownership = ownership(uid, gid, mode)?;
    let terms = Terms {
        most: param::max_names(),
        // Any user could flood the listeners.
        announced: false,
    };
    let device = ForDevice::of(&buffer, kept);
    add(driver, id, (buffer, device), field, ownership, terms)
}

/// Gives a region its node, regardless of `max_names`. Users have one name less then.
pub(crate) fn name_region(
    driver: &Driver,
    buffer: BufferRef,
    field: &Name,
    ownership: Ownership,
) -> Result<(), Refusal> {
    let terms = Terms {
        most: MOST_NAMES,
        announced: true,
    };
    add(driver, 0, (buffer, None), field, ownership, terms).map_err(|refusal| {
        match refusal.reason {
            Reason::NameTaken => Reason::RegionNameTaken.into(),
            _ => refusal,
        }
    })
}

/// What differs between names from users and from the module.
struct Terms {
    /// The most names that there may be.
    most: u32,
    /// Whether user space gets an event for the node.
    announced: bool,
}

/// The name is on the list, and taken, before its node exists. Making the node takes long, and nobody else waits for
/// it.
fn add(
    driver: &Driver,
    id: u32,
    (buffer, device): (BufferRef, Option<ForDevice>),
    field: &Name,
    ownership: Ownership,
    terms: Terms,
) -> Result<(), Refusal> {
    let text = request::name(field)?;
    let text = core::str::from_utf8(text).map_err(|_| Reason::NameInvalid)?;
    let no_memory = |_: Error| refusals::no_memory(buffer.bytes(), PAGE_SIZE as u64);

    // Not under the lock, which all users share: the caller's memory cgroup may be full.
    let flags = GFP_KERNEL_ACCOUNT;
    let by_minor = RBTreeNodeReservation::new(flags).map_err(no_memory)?;
    let by_name = RBTreeNodeReservation::new(flags).map_err(no_memory)?;
    let minor = {
        let mut names = driver.names.lock();
        // The name may be one that the device's going is about to free.
        still_there(device.as_ref())?;
        if names.by_name.get(field).is_some() {
            return Err(Reason::NameTaken.into());
        }
        if buffer.name() != [0; _] {
            return Err(Reason::AlreadyNamed.with(&[u64::from(id)]));
        }
        limit::name(names.count, terms.most, MOST_NAMES)?;
        let minor = names.free_minor();
        buffer.set_name(Some(*field));
        names.by_name.insert(by_name.into_node(*field, minor));
        let named = Named {
            owner: ownership.uid,
            buffer: buffer.clone(),
            device: device.clone(),
            node: None,
            _counted: Counted::new(Sort::Name),
        };
        names.by_minor.insert(by_minor.into_node(minor, named));
        names.count += 1;
        names.last_minor = minor;
        minor
    };
    let shown = BufferAttributes {
        buffer: buffer.clone(),
        reach: reach(device.as_ref()),
    };
    let made = make(driver, minor, shown, text, ownership, terms.announced);
    let made = made.map_err(no_memory).and_then(|node| {
        let mut names = driver.names.lock();
        // Whoever unbinds the device has looked for names already, or does so after this.
        if let Err(gone) = still_there(device.as_ref()) {
            drop(names);
            drop(node);
            return Err(gone);
        }
        if let Some(named) = names.by_minor.get_mut(&minor) {
            named.node = Some(node);
        }
        Ok(())
    });
    if made.is_err() {
        let named = driver.names.lock().remove(minor, field);
        drop(named);
    }
    made
}

/// That the device of a buffer is not being unbound.
fn still_there(device: Option<&ForDevice>) -> Result<(), Refusal> {
    match device {
        Some(own) if own.device().going() => Err(Reason::DeviceGone.into()),
        _ => Ok(()),
    }
}

fn make(
    driver: &Driver,
    minor: u32,
    shown: BufferAttributes,
    text: &str,
    ownership: Ownership,
    announced: bool,
) -> Result<Node<BufferAttributes>> {
    pause(Seam::NameFree);
    let buffer = shown.buffer.clone();
    let node = Node::new(
        &driver.class,
        &driver.numbers,
        minor,
        NodeName {
            sysfs: CString::try_from_fmt(fmt!("named!{text}"))?,
            path: CString::try_from_fmt(fmt!("mapbuf/named/{text}"))?,
        },
        ownership,
        Some(shown),
        announced,
    )?;
    pause(Seam::NodeMade);
    buffer.describe(&CString::try_from_fmt(fmt!("mapbuf {text}"))?)?;
    Ok(node)
}

/// Removes a name and its node. Whoever has the node open or mapped keeps the memory.
pub(crate) fn unname(driver: &Driver, field: &Name) -> Result<(), Refusal> {
    request::name(field)?;
    let (minor, node, buffer) = {
        let mut names = driver.names.lock();
        let minor = *names.by_name.get(field).ok_or(Reason::NameUnknown)?;
        let named = names.by_minor.get_mut(&minor);
        let named = named.ok_or(Reason::NameUnknown)?;
        right::unname(named.owner, caller::uid(), || {
            caller::capable(Capability::SysAdmin)
        })?;
        // A name that is being made does not exist yet, and one that is being removed no longer does.
        let node = named.node.take().ok_or(Reason::NameUnknown)?;
        (minor, node, named.buffer.clone())
    };
    if buffer.describe(buffer.text()).is_err() {
        let mut names = driver.names.lock();
        if let Some(named) = names.by_minor.get_mut(&minor) {
            named.node = Some(node);
        }
        return Err(Reason::OutOfMemory.with(&[buffer.bytes()]));
    }
    pause(Seam::HalfUnnamed);
    // The name stays taken until its node is gone: sysfs would warn about a duplicate.
    drop(node);
    let named = driver.names.lock().remove(minor, field);
    pause(Seam::NameGone);
    drop(named);
    Ok(())
}

/// A device goes: the buffers that are for it lose their names. Whoever has a node open or mapped keeps what of the memory is
/// not the device's.
pub(crate) fn device_goes(driver: &Driver, device: &BoundDevice) {
    loop {
        let taken = driver.names.lock().take_node_of(device);
        let Some((minor, name, node)) = taken else {
            return;
        };
        // As in `unname`.
        drop(node);
        let named = driver.names.lock().remove(minor, &name);
        drop(named);
    }
}

/// What sysfs shows of a named buffer.
pub(crate) struct BufferAttributes {
    buffer: BufferRef,
    reach: Reach,
}

impl Attributes for BufferAttributes {
    fn show(&self, attribute: Attribute) -> Result<CString> {
        let buffer = &self.buffer;
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
                let object = Object::Own(buffer.clone());
                let address = self.reach.address(&object, 0).ok_or(ENXIO)?;
                CString::try_from_fmt(fmt!("{address:#x}"))?
            }
            Attribute::Device => {
                let device = self.reach.device().ok_or(ENXIO)?;
                let name = core::str::from_utf8(device.name()).map_err(|_| EINVAL)?;
                CString::try_from_fmt(fmt!("{name}"))?
            }
        })
    }
}
