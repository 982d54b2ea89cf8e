//! The ioctls.

use super::files::{Description, Entry, Session, What};
use super::memory::{Buffer, LIMITS};
use super::{name_bytes, region, Named, Refused, Result, Seen, World};
use crate::answer::{digest, mix, Answer};
use crate::op::{self, Damage, Id, Op, PAGE};
use mapbuf_abi::{
    bit, probe, Cache, Kind, Method, Reason, ANY_NODE, CALLER, MAX_IDS, MAX_OFFSET_PAGES,
    NEAR_DEVICE,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The place of a descriptor that no place has: a dma-buf of another driver.
pub const FOREIGN: u8 = 250;

/// What an ioctl looks at before it begins, in this order.
#[derive(Clone, Copy, Default)]
struct Before {
    /// It is for allocator nodes only.
    session: bool,
    /// It needs a file that was opened for writing.
    write: bool,
    /// And for reading.
    read: bool,
    /// Its struct has a reserved field.
    reserved: bool,
}

/// What there is to know of an ioctl that has begun.
struct Begun {
    file: Rc<Description>,
    /// Its answer cannot be written.
    lost: bool,
}

impl Begun {
    fn session(&self) -> Result<&Session> {
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

    fn answer(&self, values: &[u64]) -> Result<Answer> {
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
            Op::Alloc { .. } => self.alloc(worker, op, seen),
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

    fn begin(&self, worker: u8, file: u8, damage: Damage, before: Before) -> Result<Begun> {
        let file = self.ours(worker, file)?;
        if before.session && !matches!(file.what, What::Session(_)) {
            return Err(Reason::NeedsSession.into());
        }
        if before.write && !file.writes() {
            return Err(Reason::ReadOnlyOpen.into());
        }
        if before.read && !file.reads() {
            return Err(Reason::WriteOnlyOpen.into());
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
        let Op::Alloc {
            file,
            to,
            kind,
            cache,
            bytes,
            node,
            id,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let before = Before {
            session: true,
            write: true,
            reserved: true,
            ..Before::default()
        };
        let begun = self.begin(worker, file, damage, before)?;
        let session = begun.session()?;
        if node == NEAR_DEVICE {
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
        if node != ANY_NODE && node != 0 {
            return Err(Reason::NoSuchNode.into());
        }
        if kind == Kind::Coherent && node != ANY_NODE {
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
        let scattered = matches!(kind, Kind::Vmalloc | Kind::Pages);
        let runs = seen.map(|seen| seen.runs).unwrap_or_default();
        let runs = match (scattered, runs.iter().sum::<u64>() == pages) {
            (false, _) => vec![pages],
            (true, true) => runs.to_vec(),
            (true, false) => vec![1; pages as usize],
        };
        self.buffers += 1;
        let what = (self.buffers, kind, cache);
        let buffer = Buffer::new(what, runs, uid, &session.freed, &self.accounts);
        let answer = give_id(&begun, session, buffer, wanted, false, seen)?;
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
        let buffer = begun.buffer(id)?;
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
        ])
    }

    fn segments(&self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Segments {
            file,
            id,
            first,
            count,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let begun = self.begin(worker, file, damage, Before::default())?;
        let buffer = begun.buffer(self.process(worker).id(id))?;
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
        let dma = admin && buffer.kind == Kind::Coherent;
        begun.answer(&[
            rows,
            buffer.runs.len() as u64,
            hash,
            if admin { rows } else { 0 },
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
        let wanted = self.process(worker).id(id);
        let buffer = match self.process(worker).file(buffer).map(|file| &file.what) {
            _ if buffer == FOREIGN => return Err(Reason::DmaBufMode.into()),
            Some(What::DmaBuf(buffer)) => Rc::clone(buffer),
            _ => return Err(Reason::NotADmaBuf.into()),
        };
        if wanted >= MAX_IDS {
            return Err(Reason::IdTooLarge.into());
        }
        room(session, wanted)?;
        let answer = give_id(&begun, session, buffer, wanted, true, seen)?;
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
        let buffer = begun.buffer(self.process(worker).id(id))?;
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
        if buffer.kind != Kind::Region {
            return Err(Reason::NotARegion.into());
        }
        if flags & probe::WRITE != 0 && self.mappings(&buffer) > 0 {
            return Err(Reason::ProbeWhileMapped.into());
        }
        begun.answer(&region::probed(&buffer))
    }
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
    buffer: Rc<Buffer>,
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
