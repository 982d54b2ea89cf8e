// SPDX-License-Identifier: GPL-2.0

//! A session: one open file of an allocator node, with its table of ids and offsets.
//!
//! The table is two search trees rather than the kernel's `MapleTree`: 7.2's `mas_erase`
//! (`lib/maple_tree.c`) returns the entry also when it had no memory to take it out, and the owner of an
//! entry that is still in the tree would free it twice. From 7.3 on it retries until there is memory.
//! Taking a node out of a red-black tree needs none in either.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            Direction,
            Method,
            Operation,
            MAX_IDS,
            NEAR_DEVICE, //
        },
    },
    accounts::Payers,
    buffer::{
        Buffer,
        Freed, //
    },
    device::DeviceFile,
    memory::{
        Device,
        Memory,
        Spec, //
    },
    object::Object,
    places::{
        Places,
        Reservation, //
    },
    policy::{
        limit,
        place,
        request::{
            self,
            Placement, //
        },
        right, //
    },
    reach::{
        Kept,
        OnDevice,
        Reach, //
    },
    refusals,
    sys::{
        alloc::NumaNode,
        attached::DmaRun,
        caller::param,
        counts::{
            Counted,
            Sort, //
        },
        numa, //
        seam::{
            pause,
            Seam, //
        },
    },
};
use core::mem::offset_of;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        Arc,
        Mutex, //
    },
};

const FLAGS: kernel::alloc::Flags = GFP_KERNEL_ACCOUNT;

/// An id.
struct Entry {
    object: Object,
    /// The first page of the packed range of each method that has one.
    places: [Option<u64>; Method::ALL.len()],
    /// It was not allocated by this session.
    imported: bool,
    /// The node's device has addresses for it.
    on_device: Option<Arc<Kept>>,
    _counted: Counted,
}

/// What a packed range of page offsets maps.
struct Place {
    object: Object,
    method: Method,
    _counted: Counted,
}

struct Table {
    ids: RBTree<u32, Entry>,
    places: Places<Place>,
    buffers: u32,
    last_id: u32,
}

/// What an `mmap` offset refers to.
pub(crate) struct Target {
    pub(crate) object: Object,
    /// The page of it at the offset.
    pub(crate) page: u64,
    pub(crate) method: Method,
}

/// An open file of an allocator node.
#[pin_data]
pub(crate) struct Session {
    payers: Arc<Payers>,
    freed: Arc<Freed>,
    /// Dropped before the table: the device must not write to memory that is given back.
    device: Option<DeviceFile>,
    #[pin]
    table: Mutex<Table>,
}

/// A request for a buffer, as it came from the caller.
pub(crate) struct Wanted {
    pub(crate) bytes: u64,
    pub(crate) kind: u32,
    pub(crate) cache: u32,
    pub(crate) numa_node: i32,
    pub(crate) id: u32,
    pub(crate) placement: Placement,
    /// With addresses for the node's device from the first.
    pub(crate) for_device: bool,
}

impl Wanted {
    fn check(&self, device: Option<&DeviceFile>) -> Result<Spec, Refusal> {
        let number = match (self.numa_node, device) {
            (NEAR_DEVICE, Some(device)) => device.numa_node(),
            (NEAR_DEVICE, None) => return Err(right::needs_device(Operation::Alloc)),
            (number, _) => number,
        };
        let node = NumaNode::new(number);
        let asked = request::Node {
            number: self.numa_node,
            near: number,
            has_memory: node.is_some(),
            allowed: numa::node_allowed(number),
        };
        let (kind, cache) = request::memory(self.kind, self.cache, asked)?;
        let node = node.unwrap_or(NumaNode::ANY);
        place::wanted_id(self.id)?;
        let pages = request::buffer_pages(self.bytes, PAGE_SIZE as u64)?;
        let pages = usize::try_from(pages)
            .map_err(|_| Reason::TooManyBytes.with(&[self.bytes, u64::MAX]))?;
        let placement = self.placement.check(offset_of!(wire::Alloc, below))?;
        let mut last = device.map_or(Ok(u64::MAX), |device| device.bound().reach())?;
        // Where no IOMMU chooses them, the device's addresses are physical ones.
        let chosen = self.for_device && device.is_some_and(|device| device.bound().isolated());
        if placement.below != 0 && !chosen {
            last = last.min(placement.below - 1);
        }
        Ok(Spec {
            kind,
            cache,
            pages,
            node,
            placement,
            for_device: chosen,
            last,
        })
    }
}

/// A buffer that has just been allocated.
pub(crate) struct Allocated {
    pub(crate) id: u32,
    pub(crate) bytes: u64,
    pub(crate) mmap_offset: u64,
}

impl Session {
    /// On the node of `device`, or on the node `system`.
    pub(crate) fn new(
        payers: Arc<Payers>,
        freed: Arc<Freed>,
        device: Option<DeviceFile>,
    ) -> Result<impl PinInit<Self>> {
        let places = Places::new(FLAGS)?;
        Ok(pin_init!(Self {
            payers,
            freed,
            device,
            table <- kernel::new_mutex!(
                Table {
                    ids: RBTree::new(),
                    places,
                    buffers: 0,
                    last_id: 0,
                },
                "mapbuf_table"
            ),
        }))
    }

    /// The device of the node, if there is one.
    pub(crate) fn device(&self) -> Option<&DeviceFile> {
        self.device.as_ref()
    }

    /// Allocates a buffer and gives it an id.
    pub(crate) fn allocate(&self, wanted: &Wanted) -> Result<Allocated, Refusal> {
        let spec = wanted.check(self.device.as_ref())?;
        let device = match &self.device {
            None => Device::System(self.payers.driver().device.clone()),
            Some(device) => Device::Bound(device.bound().clone()),
        };
        // Before memory is allocated in vain; `insert` checks again.
        self.table.lock().room_for(wanted.id)?;
        let buffer = Buffer::allocate(&self.payers, &self.freed, &spec, &device)?;
        let can_attach = buffer.can_attach();
        let object = Object::Own(buffer);
        let on_device = match &device {
            // Coherent memory is the device's from the first.
            Device::Bound(device) if wanted.for_device && can_attach => {
                let wish = &spec.placement;
                let below = if spec.for_device { wish.below } else { 0 };
                let made = OnDevice::new(&object, device, Direction::Both, below);
                let made = made.map_err(|refusal| match refusal.reason {
                    // There are not so many addresses there.
                    Reason::DmaRefused if below != 0 => wish.refused(spec.bytes()),
                    _ => refusal,
                })?;
                let runs = made.runs().iter().enumerate();
                let keeps = |(number, run): (usize, &DmaRun)| {
                    wish.keeps(number == 0, run.address, run.length)
                };
                if !{ runs }.all(keeps) {
                    return Err(wish.refused(spec.bytes()));
                }
                Some(Kept::new(made)?)
            }
            _ => None,
        };
        self.insert(object, wanted.id, false, on_device)
    }

    /// Gives an id to memory of the node's device that costs nothing.
    pub(crate) fn adopt(&self, memory: Memory, id: u32) -> Result<Allocated, Refusal> {
        let id = place::wanted_id(id)?;
        self.table.lock().room_for(id)?;
        let buffer = Buffer::of_region(&self.payers, &self.freed, memory)?;
        self.insert(Object::Own(buffer), id, false, None)
    }

    /// Gives an id to what somebody else allocated, and addresses to the device if there is one here.
    pub(crate) fn import(
        &self,
        object: Object,
        id: u32,
        device: Option<&DeviceFile>,
    ) -> Result<Allocated, Refusal> {
        pause(Seam::Imported);
        let id = place::wanted_id(id)?;
        // Before it is mapped for the device in vain; `insert` checks again.
        self.table.lock().room_for(id)?;
        let mut on_device = None;
        if let Some(device) = device {
            // Memory of the device's own has addresses already.
            let reach = Reach::new(Some(device.bound()), None);
            if reach.address(&object, 0).is_none() {
                let made = OnDevice::new(&object, device.bound(), Direction::Both, 0)?;
                on_device = Some(Kept::new(made)?);
            }
        }
        self.insert(object, id, true, on_device)
    }

    fn insert(
        &self,
        object: Object,
        wanted: u32,
        imported: bool,
        on_device: Option<Arc<Kept>>,
    ) -> Result<Allocated, Refusal> {
        let bytes = object.bytes();
        let entry = |_| refusals::no_memory(bytes, PAGE_SIZE as u64);
        let reserve = (
            RBTreeNodeReservation::new(FLAGS).map_err(entry)?,
            Reservation::new(FLAGS).map_err(entry)?,
        );
        let mut table = self.table.lock();
        let id = table.room_for(wanted)?;
        let first = table.take_place(&object, Method::Auto, reserve.1)?;
        let mut places = [None; Method::ALL.len()];
        if let Some(place) = places.get_mut(Method::Auto.number() as usize) {
            *place = Some(first);
        }
        pause(Seam::HalfInserted);
        table.ids.insert(reserve.0.into_node(
            id,
            Entry {
                object,
                places,
                imported,
                on_device,
                _counted: Counted::new(Sort::Id),
            },
        ));
        table.buffers += 1;
        if wanted == 0 {
            table.last_id = id;
        }
        Ok(Allocated {
            id,
            bytes,
            mmap_offset: first * PAGE_SIZE as u64,
        })
    }

    /// Frees an id. The memory is freed with its last user.
    pub(crate) fn free(&self, id: u32) -> Result<(), Refusal> {
        let entry = self.table.lock().remove(id).ok_or(no_such_id(id))?;
        pause(Seam::Removed);
        if let (false, Some(buffer)) = (entry.imported, entry.object.own()) {
            buffer.id_freed();
        }
        // Without the lock: this may be the last reference. The device's addresses end here, if no name keeps them.
        drop(entry);
        Ok(())
    }

    /// What this id stands for.
    pub(crate) fn object(&self, id: u32) -> Result<Object, Refusal> {
        let found = self
            .table
            .lock()
            .ids
            .get(&id)
            .map(|entry| entry.object.clone());
        pause(Seam::Found);
        found.ok_or(no_such_id(id))
    }

    /// What this id stands for, and the addresses that the node's device has for it by ATTACH.
    pub(crate) fn reach(&self, id: u32) -> Result<(Object, Reach), Refusal> {
        let node = self.device.as_ref().map(DeviceFile::bound);
        let table = self.table.lock();
        let entry = table.ids.get(&id).ok_or(no_such_id(id))?;
        let on_device = entry.on_device.as_ref();
        let reach = Reach::new(node, on_device.map(|kept| kept.on_device().clone()));
        Ok((entry.object.clone(), reach))
    }

    /// What this id stands for, and what keeps the addresses that the node's device has for it.
    pub(crate) fn kept(&self, id: u32) -> Result<(Object, Option<Arc<Kept>>), Refusal> {
        let table = self.table.lock();
        let entry = table.ids.get(&id).ok_or(no_such_id(id))?;
        Ok((entry.object.clone(), entry.on_device.clone()))
    }

    /// Gives the node's device addresses for a buffer.
    pub(crate) fn attach(
        &self,
        id: u32,
        device: &DeviceFile,
        direction: Direction,
    ) -> Result<Arc<OnDevice>, Refusal> {
        let attached = || Reason::AlreadyAttached.with(&[u64::from(id)]);
        let (object, before) = self.reach(id)?;
        if before.attached().is_some() || before.address(&object, 0).is_some() {
            return Err(attached());
        }
        // Not under the lock, which the threads of the session share: this takes long.
        let kept = Kept::new(OnDevice::new(&object, device.bound(), direction, 0)?)?;
        let made = kept.on_device().clone();
        let mut table = self.table.lock();
        let entry = table
            .ids
            .get_mut(&id)
            .filter(|entry| entry.object.is(&object));
        let entry = entry.ok_or(no_such_id(id))?;
        if entry.on_device.is_some() {
            return Err(attached());
        }
        entry.on_device = Some(kept);
        Ok(made)
    }

    /// Takes the addresses away that [`Self::attach`] gave, if no name keeps them.
    pub(crate) fn detach(&self, id: u32) -> Result<(), Refusal> {
        let mut table = self.table.lock();
        let entry = table.ids.get_mut(&id).ok_or(no_such_id(id))?;
        let taken = entry.on_device.take();
        drop(table);
        taken
            .map(drop)
            .ok_or(Reason::NotAttached.with(&[u64::from(id)]))
    }

    /// The `mmap` offset of a buffer in bytes, for a method.
    pub(crate) fn offset(&self, id: u32, method: Method) -> Result<u64, Refusal> {
        let index = method.number() as usize;
        let known = |table: &Table| -> Result<(Option<u64>, Object), Refusal> {
            let entry = table.ids.get(&id).ok_or(no_such_id(id))?;
            let first = entry.places.get(index).copied().flatten();
            Ok((first, entry.object.clone()))
        };
        let bytes = |first: u64| first * PAGE_SIZE as u64;
        if let (Some(first), _) = known(&self.table.lock())? {
            return Ok(bytes(first));
        }
        // Not under the lock, which the threads of the session share: the caller's memory cgroup may be full.
        let reserved = Reservation::new(FLAGS)
            .map_err(|_| refusals::no_memory(PAGE_SIZE as u64, PAGE_SIZE as u64))?;
        let mut table = self.table.lock();
        let (first, object) = known(&table)?;
        if let Some(first) = first {
            return Ok(bytes(first));
        }
        let first = table.take_place(&object, method, reserved)?;
        let places = table.ids.get_mut(&id).map(|entry| &mut entry.places);
        if let Some(place) = places.and_then(|places| places.get_mut(index)) {
            *place = Some(first);
        }
        Ok(bytes(first))
    }

    /// What a page offset refers to: an id, or a place in a packed range.
    pub(crate) fn target(&self, page: u64) -> Result<Target, Refusal> {
        let nothing = Reason::NothingAtOffset.with(&[page.saturating_mul(PAGE_SIZE as u64)]);
        if let Some(id) = place::id_at(page) {
            if id == 0 {
                return Err(nothing);
            }
            return Ok(Target {
                object: self.object(id)?,
                page: 0,
                method: Method::Auto,
            });
        }
        let table = self.table.lock();
        let target = table.places.at(page, |first, place| Target {
            object: place.object.clone(),
            page: page - first,
            method: place.method,
        });
        drop(table);
        pause(Seam::Aimed);
        target.ok_or(nothing)
    }

    /// Buffers whose ids were freed and whose memory is still held, and their bytes.
    pub(crate) fn freed_held(&self) -> (u64, u64) {
        self.freed.held()
    }
}

impl Table {
    /// The id that a new buffer gets.
    fn room_for(&self, wanted: u32) -> Result<u32, Refusal> {
        limit::buffer(self.buffers, param::max_buffers(), MAX_IDS - 1)?;
        if wanted == 0 {
            // There are fewer buffers than ids, so this ends.
            let mut id = place::id_after(self.last_id);
            while self.ids.get(&id).is_some() {
                id = place::id_after(id);
            }
            return Ok(id);
        }
        match self.ids.get(&wanted) {
            None => Ok(wanted),
            Some(_) => Err(Reason::IdInUse.with(&[u64::from(wanted)])),
        }
    }

    /// Takes a range for a buffer and a method. Returns its first page.
    fn take_place(
        &mut self,
        object: &Object,
        method: Method,
        memory: Reservation<Place>,
    ) -> Result<u64, Refusal> {
        let full = Reason::OffsetsFull.with(&[object.bytes()]);
        let free = self.places.find(object.pages()).ok_or(full)?;
        let place = Place {
            object: object.clone(),
            method,
            _counted: Counted::new(Sort::Offset),
        };
        Ok(self.places.take(free, memory, place))
    }

    fn remove(&mut self, id: u32) -> Option<Entry> {
        let entry = self.ids.remove(&id)?;
        let pages = entry.object.pages();
        for first in entry.places.iter().flatten() {
            self.places.remove(*first, pages);
        }
        self.buffers = self.buffers.saturating_sub(1);
        Some(entry)
    }
}

fn no_such_id(id: u32) -> Refusal {
    Reason::NoSuchId.with(&[u64::from(id)])
}
