//! The ioctls.

use super::declared::BAR;
use super::device::{Kept, OfDevice, Reach};
use super::files::{Description, Entry, Session, What};
use super::memory::{Buffer, LIMITS};
use super::{name_bytes, region, Named, Refused, Result, Seen, World};
use crate::answer::{digest, mix, Answer};
use crate::op::{self, Damage, Id, Op, PAGE};
use mapbuf_abi::{
    bit, probe, sync, traits, Cache, Direction, Kind, Method, Reason, ANY_NODE, CALLER, MAX_IDS,
    MAX_OFFSET_PAGES, NEAR_DEVICE,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The place of a descriptor that no place has: a dma-buf of another driver.
pub const FOREIGN: u8 = 250;

/// What an ioctl looks at before it begins, in this order.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    /// It is for nodes of devices only.
    device: bool,
    /// It is for allocator nodes only.
    session: bool,
    /// It needs a file that was opened for writing.
    write: bool,
    /// And for reading.
    read: bool,
    /// The file must be one that may use its device, if it has one.
    usable: bool,
    /// Its struct has a reserved field.
    reserved: bool,
}

/// What there is to know of an ioctl that has begun.
pub(super) struct Begun {
    file: Rc<Description>,
    /// Its answer cannot be written.
    lost: bool,
}

impl Begun {
    pub(super) fn session(&self) -> Result<&Session> {
        match &self.file.what {
            What::Session(session) => Ok(session),
            _ => Err(Reason::NeedsSession.into()),
        }
    }

    /// The buffer that an id means on this file.
    fn buffer(&self, id: u32) -> Result<Rc<Buffer>> {
        match &self.file.what {
            What::Session(session) => session.buffer(id),
            What::Named(buffer) if id == 0 => Ok(Rc::clone(buffer)),
            _ => Err(Reason::IdOnNamedNode.into()),
        }
    }

    /// What an id means on this file, and what that has to do with a device.
    fn reach(&self, id: u32) -> Result<(Rc<Buffer>, Reach)> {
        let buffer = self.buffer(id)?;
        let What::Session(session) = &self.file.what else {
            return Ok((buffer, self.file.reach.clone()));
        };
        let ids = session.ids.borrow();
        let kept = ids.get(&id).and_then(|entry| entry.kept.as_ref());
        let reach = Reach {
            device: session.device.as_ref().map(|of| Rc::clone(&of.bound)),
            attached: kept.map(|kept| Rc::clone(kept.attached())),
        };
        Ok((buffer, reach))
    }

    /// Whether the caller may see addresses of devices.
    fn sees_dma(&self, admin: bool) -> bool {
        match &self.file.what {
            What::Session(session) => match &session.device {
                Some(device) => self.file.writes() && device.usable().is_ok(),
                None => admin,
            },
            _ => admin && self.file.reach.device.as_ref().is_none_or(|of| of.there()),
        }
    }

    pub(super) fn answer(&self, values: &[u64]) -> Result<Answer> {
        match self.lost {
            true => Err(Reason::BadAddress.into()),
            false => Ok(Answer::of(values)),
        }
    }
}

impl World {
    pub(super) fn ioctl(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        match *op {
            Op::Query { file, damage } => self.query(worker, file, damage),
            Op::Alloc { .. } | Op::AllocDma { .. } => self.alloc(worker, op, seen),
            Op::Attach { .. } => self.attach(worker, op),
            Op::Detach { file, id, damage } => self.detach(worker, file, id, damage),
            Op::Sync { .. } => self.sync(worker, op),
            Op::DmaMask { file, bits, damage } => self.dma_mask(worker, file, bits, damage),
            Op::Irq { .. } => self.irq(worker, op),
            Op::Bar { .. } => self.bar(worker, op, seen),
            Op::Free { file, id, damage } => self.free(worker, file, id, damage),
            Op::Info { file, id, damage } => self.info(worker, file, id, damage),
            Op::Segments { .. } => self.segments(worker, op),
            Op::Offset { .. } => self.offset(worker, op, seen),
            Op::Export { .. } => self.export(worker, op),
            Op::Import { .. } => self.import(worker, op, seen),
            Op::Name { .. } => self.name(worker, op),
            Op::Unname { file, name, damage } => self.unname(worker, file, name, damage),
            Op::Probe {
                file,
                id,
                flags,
                damage,
            } => self.probe(worker, file, (id, flags), damage),
            Op::Region {
                file,
                index,
                damage,
            } => {
                let begun = self.begin(worker, file, damage, Before::default())?;
                begun.answer(&region::told(index, self.process(worker).admin()))
            }
            Op::LastError { file, damage } => {
                let begun = self.begin(worker, file, damage, Before::default())?;
                let said = begun.file.said(self.process(worker).number);
                let values = [said.sequence, said.reason.into(), said.operation.into()];
                begun.answer(&values)
            }
            Op::Unknown { file, .. } => {
                self.ours(worker, file)?;
                Err(Reason::UnknownIoctl.into())
            }
            Op::DmaBufSync { file, flags } => {
                let Some(file) = self.process(worker).file(file) else {
                    return Err(Refused::Kernel(libc::EBADF));
                };
                // Bits 0 and 1 are the direction, bit 2 the end (`dma_buf_ioctl` of `drivers/dma-buf/dma-buf.c`). The node
                // of a named buffer hands it on.
                match &file.what {
                    What::Session(_) => Err(Reason::UnknownIoctl.into()),
                    _ if flags & !7 != 0 || flags & 3 == 0 => Err(Refused::Kernel(libc::EINVAL)),
                    _ => Ok(Answer::done()),
                }
            }
            _ => Err(Refused::Kernel(libc::ENOSYS)),
        }
    }

    /// A file that knows our ioctls.
    fn ours(&self, worker: u8, file: u8) -> Result<Rc<Description>> {
        match self.process(worker).file(file) {
            None => Err(Refused::Kernel(libc::EBADF)),
            Some(file) if matches!(file.what, What::DmaBuf(_)) => {
                Err(Refused::Kernel(libc::ENOTTY))
            }
            Some(file) => Ok(Rc::clone(file)),
        }
    }

    pub(super) fn begin(
        &self,
        worker: u8,
        file: u8,
        damage: Damage,
        before: Before,
    ) -> Result<Begun> {
        let file = self.ours(worker, file)?;
        let device = match &file.what {
            What::Session(session) => session.device.as_ref(),
            _ => None,
        };
        if before.device && device.is_none() {
            return Err(Reason::NeedsDevice.into());
        }
        if before.session && !matches!(file.what, What::Session(_)) {
            return Err(Reason::NeedsSession.into());
        }
        if before.write && !file.writes() {
            return Err(Reason::ReadOnlyOpen.into());
        }
        if before.read && !file.reads() {
            return Err(Reason::WriteOnlyOpen.into());
        }
        if let (true, Some(device)) = (before.usable, device) {
            device.usable()?;
        }
        let lost = match damage {
            Damage::No | Damage::Longer | Damage::Edge => false,
            Damage::ReadOnly => true,
            Damage::Nowhere | Damage::Torn => return Err(Reason::BadAddress.into()),
            Damage::Short => return Err(Reason::StructTooShort.into()),
            Damage::TooLong => return Err(Reason::StructTooLong.into()),
            Damage::Newer => return Err(Reason::StructTooNew.into()),
            Damage::Flags => return Err(Reason::UnknownFlags.into()),
            Damage::Reserved if before.reserved => return Err(Reason::ReservedNotZero.into()),
            Damage::Reserved => false,
        };
        Ok(Begun { file, lost })
    }

    fn query(&self, worker: u8, file: u8, damage: Damage) -> Result<Answer> {
        let begun = self.begin(worker, file, damage, Before::default())?;
        let kinds = [Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent];
        let kinds = match begun.file.what {
            What::Session(_) => kinds.iter().map(|kind| bit(kind.number())).sum::<u32>(),
            _ => 0,
        };
        let accounts = self.accounts();
        begun.answer(&[
            PAGE as u64,
            kinds.into(),
            Method::ALL.iter().map(|m| u64::from(bit(m.number()))).sum(),
            LIMITS.all.min(LIMITS.user),
            LIMITS.all,
            LIMITS.user,
            accounts.used(),
            accounts.used_by(begun.file.opener),
            accounts.buffers(),
        ])
    }

    fn alloc(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        let nowhere = Placement::default();
        let (file, to, kind, cache, bytes, node, id, damage, placement) = match *op {
            Op::Alloc {
                file,
                to,
                kind,
                cache,
                bytes,
                node,
                id,
                damage,
            } => (file, to, kind, cache, bytes, node, id, damage, nowhere),
            Op::AllocDma {
                file,
                to,
                kind,
                bytes,
                device,
                below,
                align,
                boundary,
                damage,
            } => {
                let placement = Placement {
                    device,
                    below,
                    align,
                    boundary,
                };
                let (cache, id) = (Cache::Cached.number(), Id::Number(0));
                (
                    file, to, kind, cache, bytes, ANY_NODE, id, damage, placement,
                )
            }
            _ => return Err(Refused::Kernel(libc::EINVAL)),
        };
        let before = Before {
            session: true,
            write: true,
            usable: true,
            // Those flags are looked at before.
            reserved: !placement.device,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let session = begun.session()?;
        let device = session.device.as_ref().map(|of| &of.bound);
        if placement.device && device.is_none() {
            return Err(Reason::NeedsDevice.into());
        }
        if damage == Damage::Reserved {
            return Err(Reason::ReservedNotZero.into());
        }
        if node == NEAR_DEVICE && device.is_none() {
            return Err(Reason::NeedsDevice.into());
        }
        let kind = Kind::from_number(kind).ok_or(Reason::UnknownKind)?;
        let cache = Cache::from_number(cache).ok_or(Reason::UnknownCache)?;
        if matches!(kind, Kind::Region | Kind::Foreign) {
            return Err(Reason::KindNotHere.into());
        }
        if kind == Kind::Coherent && cache != Cache::Cached {
            return Err(Reason::CoherentIsCached.into());
        }
        // The machine has node 0 alone.
        if ![ANY_NODE, NEAR_DEVICE, 0].contains(&node) {
            return Err(Reason::NoSuchNode.into());
        }
        if kind == Kind::Coherent && node == 0 {
            return Err(Reason::NodeOfDevice.into());
        }
        let wanted = self.process(worker).id(id);
        if wanted >= MAX_IDS {
            return Err(Reason::IdTooLarge.into());
        }
        let pages = bytes.div_ceil(PAGE as u64);
        if pages == 0 {
            return Err(Reason::ZeroBytes.into());
        }
        if pages > MAX_OFFSET_PAGES - u64::from(MAX_IDS) {
            return Err(Reason::TooManyBytes.into());
        }
        placement.check()?;
        room(session, wanted)?;
        let uid = begun.file.opener;
        let fits = |used: u64, limit: u64| used + pages * PAGE as u64 <= limit;
        if !fits(self.accounts.used(), LIMITS.all) {
            return Err(Reason::OverLimit.into());
        }
        if !fits(self.accounts.used_by(uid), LIMITS.user) {
            return Err(Reason::OverUserLimit.into());
        }
        if let Some(reason) = exhausted(pages, seen) {
            return Err(reason.into());
        }
        if !placement.can_be_kept() {
            return Err(Reason::PlacementRefused.into());
        }
        let scattered = matches!(kind, Kind::Vmalloc | Kind::Pages);
        let runs = seen.map(|seen| seen.runs).unwrap_or_default();
        let runs = match (scattered, runs.iter().sum::<u64>() == pages) {
            (false, _) => vec![pages],
            (true, true) => runs.to_vec(),
            (true, false) => vec![1; pages as usize],
        };
        self.buffers += 1;
        let what = (self.buffers, kind, cache);
        let own = device.filter(|_| kind == Kind::Coherent);
        let buffer = Buffer::of_device(what, runs, uid, &session.freed, &self.accounts, own);
        let for_device = device.filter(|_| placement.device && buffer.has_pages());
        let kept = for_device.map(|bound| Kept::new(bound, Direction::Both.number()));
        let answer = give_id(&begun, session, (buffer, kept), wanted, false, seen)?;
        self.set_var(worker, to, &answer);
        Ok(answer)
    }

    /// Notes the id and the offset that an answer holds in its first and third value.
    fn set_var(&mut self, worker: u8, var: u8, answer: &Answer) {
        let process = self.process_mut(worker);
        let var = usize::from(var);
        if let (Some(id), Some(offset)) = (process.ids.get_mut(var), process.offsets.get_mut(var)) {
            *id = answer.values[0] as u32;
            *offset = answer.values[2];
        }
    }

    fn free(&mut self, worker: u8, file: u8, id: Id, damage: Damage) -> Result<Answer> {
        let before = Before {
            session: true,
            reserved: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        take_id(begun.session()?, self.process(worker).id(id))?;
        Ok(Answer::done())
    }

    fn info(&self, worker: u8, file: u8, id: Id, damage: Damage) -> Result<Answer> {
        let before = Before::default();
        let begun = self.begin(worker, file, damage, before)?;
        let id = self.process(worker).id(id);
        let (mut freed, mut offset) = ((0, 0), 0);
        if let What::Session(session) = &begun.file.what {
            freed = session.freed.get();
            if id == 0 {
                let nameless = digest(&name_bytes(None));
                return begun.answer(&[0, 0, 0, 0, freed.0, 0, freed.1, 0, nameless]);
            }
            let ids = session.ids.borrow();
            let entry = ids.get(&id).ok_or(Reason::NoSuchId)?;
            offset = entry.places.get(&Method::Auto).copied().unwrap_or(0) * PAGE as u64;
        }
        let (buffer, reach) = begun.reach(id)?;
        let address = reach.has_address(&buffer);
        let shown = address && begun.sees_dma(self.process(worker).admin());
        begun.answer(&[
            buffer.kind.number().into(),
            buffer.cache.number().into(),
            buffer.runs.len() as u64,
            self.mappings(&buffer),
            freed.0,
            buffer.bytes(),
            freed.1,
            offset,
            digest(&name_bytes(buffer.name.get())),
            u64::from(traits_of(&buffer, &reach)) | u64::from(shown) << 32,
        ])
    }

    fn segments(&self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Segments {
            file,
            id,
            first,
            count,
            device,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let begun = self.begin(worker, file, damage, Before::default())?;
        let (buffer, reach) = begun.reach(self.process(worker).id(id))?;
        let address = reach.has_address(&buffer);
        if device && !address {
            return Err(Reason::NotAttached.into());
        }
        let mut at = 0;
        let (mut rows, mut hash) = (0, 0);
        for (number, run) in (0u64..).zip(&buffer.runs) {
            if number >= first.into() && number < u64::from(first) + u64::from(count) {
                hash = mix(mix(hash, at), run * PAGE as u64);
                rows += 1;
            }
            at += run * PAGE as u64;
        }
        let admin = self.process(worker).admin();
        let dma = begun.sees_dma(admin) && address;
        // Without an IOMMU the device's runs are those of the memory.
        let physical = admin && !device && !buffer.gone();
        begun.answer(&[
            rows,
            buffer.runs.len() as u64,
            hash,
            if physical { rows } else { 0 },
            if dma { rows } else { 0 },
        ])
    }

    fn offset(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        let Op::Offset {
            file,
            to,
            id,
            method,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let before = Before {
            session: true,
            reserved: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let session = begun.session()?;
        let method = Method::from_number(method).ok_or(Reason::UnknownMethod)?;
        let id = self.process(worker).id(id);
        let buffer = session.buffer(id)?;
        let known = {
            let ids = session.ids.borrow();
            ids.get(&id)
                .and_then(|entry| entry.places.get(&method).copied())
        };
        // When the answer was lost nobody knows the place; the guess is what the driver does now.
        let seen = seen.filter(|seen| seen.answer.succeeded());
        let seen = seen.map(|seen| seen.answer.values[0]);
        let first = known.unwrap_or_else(|| session.place(buffer.len(), seen));
        if let Some(entry) = session.ids.borrow_mut().get_mut(&id) {
            entry.places.insert(method, first);
        }
        if begun.lost {
            return Err(Reason::BadAddress.into());
        }
        let offset = first * PAGE as u64;
        if let Some(var) = self.process_mut(worker).offsets.get_mut(usize::from(to)) {
            *var = offset;
        }
        Ok(Answer::of(&[offset]))
    }

    fn export(&mut self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Export {
            file,
            to,
            id,
            starved,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let before = Before {
            write: true,
            read: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let buffer = begun.buffer(self.process(worker).id(id))?;
        if starved {
            return Err(Reason::NoDescriptor.into());
        }
        let answer = begun.answer(&[])?;
        let file = Description::new(What::DmaBuf(buffer), 2, begun.file.opener);
        self.process_mut(worker).put(to, file);
        Ok(answer)
    }

    fn import(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        let Op::Import {
            file,
            to,
            buffer,
            id,
            device,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let before = Before {
            session: true,
            write: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let session = begun.session()?;
        let device = match device {
            true => Some(session.device.as_ref().ok_or(Reason::NeedsDevice)?),
            false => None,
        };
        let wanted = self.process(worker).id(id);
        let buffer = match self.process(worker).file(buffer).map(|file| &file.what) {
            _ if buffer == FOREIGN => return Err(Reason::DmaBufMode.into()),
            Some(What::DmaBuf(buffer)) => Rc::clone(buffer),
            _ => return Err(Reason::NotADmaBuf.into()),
        };
        device.map_or(Ok(()), OfDevice::usable)?;
        if wanted >= MAX_IDS {
            return Err(Reason::IdTooLarge.into());
        }
        room(session, wanted)?;
        let mut kept = None;
        if let Some(device) = device {
            let reach = Reach {
                device: Some(Rc::clone(&device.bound)),
                attached: None,
            };
            // What is the device's own has addresses from the first.
            if !reach.has_address(&buffer) {
                if !buffer.has_pages() {
                    return Err(Reason::CannotAttach.into());
                }
                kept = Some(Kept::new(&device.bound, Direction::Both.number()));
            }
        }
        let answer = give_id(&begun, session, (buffer, kept), wanted, true, seen)?;
        self.set_var(worker, to, &answer);
        Ok(answer)
    }

    fn name(&mut self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Name {
            file,
            id,
            name,
            mode,
            uid,
            gid,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let before = Before {
            session: true,
            write: true,
            read: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let id = self.process(worker).id(id);
        let buffer = begun.buffer(id)?;
        let kept = match &begun.file.what {
            What::Session(session) => {
                let ids = session.ids.borrow();
                ids.get(&id).and_then(|entry| entry.kept.clone())
            }
            _ => None,
        };
        if buffer.is_bar() {
            return Err(Reason::RevocableUnnamed.into());
        }
        let own = self.process(worker).uid;
        if !valid(name) {
            return Err(Reason::NameInvalid.into());
        }
        if mode & !0o666 != 0 {
            return Err(Reason::ModeInvalid.into());
        }
        let or_own = |id: u32| if id == CALLER { own } else { id };
        let (uid, gid) = (or_own(uid), or_own(gid));
        if own != 0 && (uid != own || gid != own) {
            return Err(Reason::OwnerNotPermitted.into());
        }
        let device = match &kept {
            Some(kept) => Some(kept.bound()),
            None => buffer.device.as_ref(),
        };
        if device.is_some_and(|device| !device.there()) {
            return Err(Reason::DeviceGone.into());
        }
        if self.names.contains_key(&name) {
            return Err(Reason::NameTaken.into());
        }
        if buffer.name.get().is_some() {
            return Err(Reason::AlreadyNamed.into());
        }
        if self.names.len() >= LIMITS.names {
            return Err(Reason::TooManyNames.into());
        }
        buffer.name.set(Some(name));
        let named = Named {
            buffer,
            kept,
            mode,
            uid,
            gid,
        };
        self.names.insert(name, named);
        Ok(Answer::done())
    }

    fn unname(&mut self, worker: u8, file: u8, name: u8, damage: Damage) -> Result<Answer> {
        self.begin(worker, file, damage, Before::default())?;
        if !valid(name) {
            return Err(Reason::NameInvalid.into());
        }
        let own = self.process(worker).uid;
        let named = self.names.get(&name).ok_or(Reason::NameUnknown)?;
        if own != 0 && named.uid != own {
            return Err(Reason::NotOwner.into());
        }
        named.buffer.name.set(None);
        self.names.remove(&name);
        Ok(Answer::done())
    }

    fn attach(&mut self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Attach {
            file,
            id,
            direction,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let begun = self.begin(worker, file, damage, OF_DEVICE)?;
        let session = begun.session()?;
        let direction = known_direction(direction)?;
        let device = session.device.as_ref().ok_or(Reason::NeedsDevice)?;
        device.usable()?;
        let id = self.process(worker).id(id);
        let (buffer, reach) = begun.reach(id)?;
        if reach.attached.is_some() || reach.has_address(&buffer) {
            return Err(Reason::AlreadyAttached.into());
        }
        if !buffer.has_pages() {
            return Err(Reason::CannotAttach.into());
        }
        let answer = begun.answer(&[])?;
        if let Some(entry) = session.ids.borrow_mut().get_mut(&id) {
            entry.kept = Some(Kept::new(&device.bound, direction));
        }
        Ok(answer)
    }

    fn detach(&mut self, worker: u8, file: u8, id: Id, damage: Damage) -> Result<Answer> {
        let begun = self.begin(worker, file, damage, OF_DEVICE)?;
        let mut ids = begun.session()?.ids.borrow_mut();
        let entry = ids.get_mut(&self.process(worker).id(id));
        let kept = entry.ok_or(Reason::NoSuchId)?.kept.take();
        kept.map(|_| Answer::done())
            .ok_or(Reason::NotAttached.into())
    }

    fn sync(&self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Sync {
            file,
            id,
            phase,
            direction,
            offset,
            length,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let ours = self.ours(worker, file)?;
        let device = match &ours.what {
            What::Session(session) => session.device.as_ref().map(|of| &of.bound),
            _ => ours.reach.device.as_ref(),
        };
        let named = matches!(ours.what, What::Named(_));
        if named && device.is_none() {
            return Err(Reason::NeedsDevice.into());
        }
        let before = Before {
            write: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let device = device.ok_or(Reason::NeedsDevice)?;
        if ![sync::BEGIN, sync::END].contains(&phase) {
            return Err(Reason::SyncPhase.into());
        }
        let direction = known_direction(direction)?;
        let (buffer, reach) = begun.reach(self.process(worker).id(id))?;
        let end = offset.checked_add(length);
        if length == 0 || end.is_none_or(|end| end > buffer.bytes()) {
            return Err(Reason::SyncOutside.into());
        }
        match &ours.what {
            What::Session(session) => session.device.as_ref().map_or(Ok(()), OfDevice::usable)?,
            _ if !device.there() => return Err(Reason::DeviceGone.into()),
            _ => {}
        }
        match &reach.attached {
            Some(attached) if named && !attached.alive() => Err(Reason::NotAttached.into()),
            Some(attached)
                if ![Direction::Both.number(), direction].contains(&attached.direction) =>
            {
                Err(Reason::SyncDirection.into())
            }
            Some(attached) if !attached.alive() => Err(Reason::DeviceGone.into()),
            None if !reach.has_address(&buffer) => Err(Reason::NotAttached.into()),
            _ => Ok(Answer::done()),
        }
    }

    fn dma_mask(&self, worker: u8, file: u8, bits: u32, damage: Damage) -> Result<Answer> {
        let before = Before {
            session: false,
            ..OF_DEVICE
        };
        let begun = self.begin(worker, file, damage, before)?;
        let device = begun
            .session()?
            .device
            .as_ref()
            .ok_or(Reason::NeedsDevice)?;
        device.usable()?;
        if !(12..=64).contains(&bits) {
            return Err(Reason::MaskInvalid.into());
        }
        if device.bound.used() {
            return Err(Reason::MaskInUse.into());
        }
        Ok(Answer::done())
    }

    fn bar(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        let Op::Bar {
            file,
            to,
            index,
            cache,
            width,
            id,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let begun = self.begin(worker, file, damage, OF_DEVICE)?;
        let session = begun.session()?;
        let device = session.device.as_ref().ok_or(Reason::NeedsDevice)?;
        device.usable()?;
        if index != BAR {
            return Err(Reason::NoSuchBar.into());
        }
        let cache = Cache::from_number(cache).ok_or(Reason::UnknownCache)?;
        let word = match width {
            0 => 4,
            8 | 16 | 32 | 64 => u64::from(width) / 8,
            _ => return Err(Reason::BarWidth.into()),
        };
        if cache == Cache::Cached {
            return Err(Reason::BarCache.into());
        }
        device.bound.show(cache)?;
        self.buffers += 1;
        let what = (self.buffers, cache, word);
        let uid = begun.file.opener;
        // Dropped, it is shown no more.
        let buffer = Buffer::of_bar(what, uid, &session.freed, &self.accounts, &device.bound);
        let wanted = self.process(worker).id(id);
        if wanted >= MAX_IDS {
            return Err(Reason::IdTooLarge.into());
        }
        room(session, wanted)?;
        let answer = give_id(&begun, session, (buffer, None), wanted, false, seen)?;
        self.set_var(worker, to, &answer);
        Ok(answer)
    }

    fn probe(
        &self,
        worker: u8,
        file: u8,
        (id, flags): (Id, u32),
        damage: Damage,
    ) -> Result<Answer> {
        let before = Before {
            write: true,
            read: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        if flags & !(probe::WRITE | probe::RISK) != 0 {
            return Err(Reason::UnknownFlags.into());
        }
        let buffer = begun.buffer(self.process(worker).id(id))?;
        if buffer.is_bar() {
            return Err(Reason::BarNotProbed.into());
        }
        if buffer.kind != Kind::Region {
            return Err(Reason::NotARegion.into());
        }
        if flags & probe::WRITE != 0 && self.mappings(&buffer) > 0 {
            return Err(Reason::ProbeWhileMapped.into());
        }
        begun.answer(&region::probed(&buffer))
    }
}

/// What the ioctls of devices' nodes look at before they begin.
pub(super) const OF_DEVICE: Before = Before {
    device: true,
    session: true,
    write: true,
    read: false,
    usable: false,
    reserved: true,
};

/// Where memory must lie.
#[derive(Clone, Copy, Default)]
struct Placement {
    /// With addresses for the device.
    device: bool,
    below: u64,
    align: u32,
    boundary: u32,
}

impl Placement {
    fn check(&self) -> Result<()> {
        let below = self.below == 0 || self.below >= PAGE as u64;
        let boundary = self.boundary == 0 || (12..64).contains(&self.boundary);
        match below && self.align <= 40 && boundary {
            true => Ok(()),
            false => Err(Reason::PlacementInvalid.into()),
        }
    }

    /// Programs ask for what every page of this machine keeps, or for the first page alone, which is the firmware's.
    fn can_be_kept(&self) -> bool {
        self.below != PAGE as u64
    }
}

fn known_direction(number: u32) -> Result<u32> {
    let known = Direction::from_number(number).ok_or(Reason::UnknownDirection)?;
    Ok(known.number())
}

/// Bits of `traits`.
fn traits_of(buffer: &Buffer, reach: &Reach) -> u32 {
    let bits = |is: bool, bits: u32| if is { bits } else { 0 };
    bits(buffer.has_pages(), traits::PINNABLE)
        | bits(
            reach.has_address(buffer),
            traits::ATTACHED | traits::COHERENT,
        )
        | bits(buffer.device.is_some(), traits::REVOCABLE)
}

/// Whether a name is `[A-Za-z0-9_][A-Za-z0-9._-]*`, with nothing behind it.
fn valid(number: u8) -> bool {
    let name = op::name(number);
    let length = name.iter().position(|byte| *byte == 0);
    let (name, rest) = name.split_at(length.unwrap_or(name.len()));
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(word)
        && name.iter().all(|byte| word(byte) || b".-".contains(byte))
        && rest.iter().all(|byte| *byte == 0)
}

/// Large pieces of memory can be missing, which nobody can foretell.
fn exhausted(pages: u64, seen: Option<Seen<'_>>) -> Option<Reason> {
    let reason = seen?.answer.reason()?;
    let can_be = [
        Reason::OutOfMemory,
        Reason::NoContiguousMemory,
        Reason::NoCoherentMemory,
    ];
    (pages >= 64 && can_be.contains(&reason)).then_some(reason)
}

/// Whether a session may have another id, and this one.
fn room(session: &Session, wanted: u32) -> Result<()> {
    let ids = session.ids.borrow();
    if ids.len() as u64 >= LIMITS.buffers {
        Err(Reason::TooManyBuffers.into())
    } else if wanted != 0 && ids.contains_key(&wanted) {
        Err(Reason::IdInUse.into())
    } else {
        Ok(())
    }
}

/// Gives a buffer an id; when the answer is lost it is taken away again.
fn give_id(
    begun: &Begun,
    session: &Session,
    (buffer, kept): (Rc<Buffer>, Option<Rc<Kept>>),
    wanted: u32,
    imported: bool,
    seen: Option<Seen<'_>>,
) -> Result<Answer> {
    let value = |index: usize| {
        let seen = seen.filter(|seen| seen.answer.succeeded())?;
        seen.answer.values.get(index).copied()
    };
    let id = match wanted {
        0 => session.new_id(value(0)),
        id => id,
    };
    let bytes = buffer.bytes();
    let first = session.place(buffer.len(), value(2));
    if begun.lost {
        return Err(Reason::BadAddress.into());
    }
    let entry = Entry {
        buffer,
        places: BTreeMap::from([(Method::Auto, first)]),
        imported,
        kept,
    };
    session.ids.borrow_mut().insert(id, entry);
    Ok(Answer::of(&[id.into(), bytes, first * PAGE as u64]))
}

/// Takes an id away.
fn take_id(session: &Session, id: u32) -> Result<()> {
    let entry = session.ids.borrow_mut().remove(&id);
    let entry = entry.ok_or(Reason::NoSuchId)?;
    if !entry.imported {
        entry.buffer.free_id();
    }
    Ok(())
}
