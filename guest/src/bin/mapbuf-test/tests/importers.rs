//! Drivers that others wrote take our buffers: without a line of ours on their side.
//!
//! `vivid` is a camera and a screen in software. Its first instance takes memory through `vb2_dc_map_dmabuf`
//! (drivers/media/common/videobuf2/videobuf2-dma-contig.c) and its like: `dma_buf_attach`, `dma_buf_map_attachment`,
//! then it wants the whole buffer at one run of DMA addresses, and writes the picture through `dma_buf_vmap`. Its
//! second instance takes any memory (drivers/media/common/videobuf2/videobuf2-vmalloc.c, `vb2_vmalloc_map_dmabuf`):
//! `dma_buf_vmap` alone; or the address at which a program has the memory mapped, whose pages it pins.

use super::attached::{dma_buffer, set_mask, Engine};
use super::counts::{counts, more};
use super::devices::{device, Bound};
use super::lifetime;
use super::sharing::{numbered, shows};
use crate::check::{fails, refused, Failure, Outcome};
use crate::drm::Card;
use crate::proc::Log;
use crate::session::{alloc_request, Refused, Session, KINDS};
use crate::sys::{self, fork, Errno, Map, PAGE, RW, SHARED};
use crate::v4l2::{Memory, Queue, Way};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Alloc, Cache, Iommu, Kind, Operation, Reason};
use std::fs::File;

tests! { "importers":
    IMPORTERS, 60: [
        camera_fills_a_contiguous_buffer_by_its_dma_address,
        camera_fills_any_buffer_by_the_kernels_address,
        camera_fills_memory_where_it_is_mapped,
        camera_and_a_device_behind_an_iommu_share_a_buffer,
        screen_shows_what_a_buffer_holds,
        scattered_buffer_is_refused_where_one_run_is_wanted,
        region_is_refused_by_every_importer,
        buffer_that_is_too_short_is_refused,
        camera_keeps_a_buffer_that_nobody_else_has,
        cpu_access_while_a_device_has_the_buffer,
        camera_of_a_killed_process_gives_the_buffer_back,
        devices_that_have_a_buffer_are_counted,
        killed_process_leaves_no_warning,
    ];
    CARD, 60: [
        graphics_handle_keeps_the_buffer,
        graphics_card_that_has_a_buffer_is_counted,
    ];
}

/// `vivid` with `vb2_dma_contig_memops`, and with `vb2_vmalloc_memops`: the numbers of its capture devices.
const BY_DMA_ADDRESS: u32 = 0;
const BY_KERNEL_ADDRESS: u32 = 2;

/// A picture of 57600 bytes: 14 pages and a bit.
const SMALL: (u32, u32) = (320, 180);

/// One folio of 2 MiB, so that the kind `pages` is one run.
const HUGE: usize = 2 << 20;

/// What the buffer holds before a picture comes.
const BEFORE: u8 = 0xa5;

/// Controls of vivid (drivers/media/test-drivers/vivid/vivid-ctrls.c): no text in the picture (2 is "None"), and what
/// the HDMI input is connected to.
const OSD_TEXT_MODE: u32 = 0x00f0_f001;
const HDMI_IS_CONNECTED_TO: u32 = 0x00f0_f000 + 113;
/// The first HDMI output of all instances has the number 2 there: before it are the test pattern and nothing.
const FIRST_OUTPUT: u32 = 2;

/// A camera whose picture is the same every time.
fn camera(number: u32) -> Outcome<Queue> {
    let mut camera = Queue::open(number, Way::Capture)?;
    camera.webcam(SMALL)?;
    camera.control(OSD_TEXT_MODE, 2)?;
    Ok(camera)
}

/// A picture in the driver's own memory: what any other memory has to hold afterwards.
fn picture(camera: &mut Queue) -> Outcome<Vec<u8>> {
    camera.request(Memory::Own, 2)?;
    let map = camera.map(0)?;
    camera.queue(0, None)?;
    camera.start()?;
    check_eq!(camera.dequeue()?, 0, "place that has a picture");
    let bytes = map.bytes(0, camera.bytes);
    camera.stop()?;
    drop(map);
    camera.request(Memory::Own, 0)?;
    // It must be something that memory does not hold by chance.
    let mut values = bytes.clone();
    values.sort_unstable();
    values.dedup();
    check!(
        values.len() >= 4,
        "a picture of the values {values:x?} only"
    );
    Ok(bytes)
}

/// That the first place of a camera takes a buffer, by its dma-buf or else where it is mapped, and leaves the picture there
/// and nothing elsewhere.
fn takes_a_picture(
    camera: &mut Queue,
    expected: &[u8],
    dma_buf: Option<&File>,
    map: &Map,
) -> Outcome {
    map.fill(u64::from_ne_bytes([BEFORE; 8]));
    let memory = dma_buf.map_or(Memory::User, |_| Memory::DmaBuf);
    camera.request(memory, 2)?;
    match dma_buf {
        Some(dma_buf) => camera.queue(0, Some(dma_buf))?,
        None => camera.queue_mapped(0, map)?,
    }
    camera.start()?;
    check_eq!(camera.dequeue()?, 0, "place that has a picture");
    camera.stop()?;
    let found = map.bytes(0, expected.len());
    if let Some(at) = (0..expected.len()).find(|&at| found[at] != expected[at]) {
        return Err(Failure::new(format!(
            "byte {at} of the picture: is {:#x}, must be {:#x}",
            found[at], expected[at]
        )));
    }
    let behind = (expected.len()..map.len).find(|&at| map.u8(at) != BEFORE);
    check_eq!(behind, None, "first byte written behind the picture");
    camera.request(memory, 0)?;
    Ok(())
}

/// Waits until the driver holds so many buffers and bytes beside the region, which is always there.
#[track_caller]
fn comes_to(session: &Session, buffers: u64, bytes: usize) -> Outcome {
    lifetime::comes_to(session, buffers + 1, bytes)
}

fn alloc(session: &Session, kind: Kind, cache: Cache, bytes: usize) -> Outcome<(Alloc, Map)> {
    let request = Alloc {
        cache: cache.number(),
        ..alloc_request(kind, bytes as u64)
    };
    let buffer = session.ioctl(ioctl::ALLOC, request)?;
    let map = session.map(bytes, RW, SHARED, buffer.mmap_offset)?;
    Ok((buffer, map))
}

fn camera_fills_a_contiguous_buffer_by_its_dma_address() -> Outcome {
    let session = Session::open()?;
    let mut camera = camera(BY_DMA_ADDRESS)?;
    let expected = picture(&mut camera)?;
    for (kind, cache, bytes) in [
        (Kind::Contiguous, Cache::Cached, 15 * PAGE),
        (Kind::Contiguous, Cache::Cached, HUGE),
        // Beyond what the buddy allocator has in one piece.
        (Kind::Contiguous, Cache::Cached, 4 * HUGE),
        (Kind::Contiguous, Cache::WriteCombined, HUGE),
        (Kind::Contiguous, Cache::Uncached, 15 * PAGE),
        (Kind::Coherent, Cache::Cached, 15 * PAGE),
        (Kind::Coherent, Cache::Cached, HUGE),
        (Kind::Pages, Cache::Cached, HUGE),
    ] {
        let (buffer, map) = alloc(&session, kind, cache, bytes)?;
        check_eq!(
            session.info(buffer.id)?.segments,
            1,
            "{kind:?}, runs of {bytes} bytes"
        );
        let dma_buf = session.export(buffer.id)?;
        takes_a_picture(&mut camera, &expected, Some(&dma_buf), &map).map_err(|failure| {
            Failure::new(format!("{kind:?} {cache:?} of {bytes} bytes: {failure:?}"))
        })?;
        session.free(buffer.id)?;
        drop((dma_buf, map));
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn camera_fills_any_buffer_by_the_kernels_address() -> Outcome {
    let session = Session::open()?;
    let mut camera = camera(BY_KERNEL_ADDRESS)?;
    let expected = picture(&mut camera)?;
    for kind in KINDS {
        for cache in [Cache::Cached, Cache::WriteCombined, Cache::Uncached] {
            if kind == Kind::Coherent && cache != Cache::Cached {
                continue;
            }
            let bytes = 67 * PAGE;
            let (buffer, map) = alloc(&session, kind, cache, bytes)?;
            let dma_buf = session.export(buffer.id)?;
            takes_a_picture(&mut camera, &expected, Some(&dma_buf), &map)
                .map_err(|failure| Failure::new(format!("{kind:?} {cache:?}: {failure:?}")))?;
            // Once more: the kernel's address was given back and is asked for again.
            takes_a_picture(&mut camera, &expected, Some(&dma_buf), &map)
                .map_err(|failure| Failure::new(format!("{kind:?} {cache:?}: {failure:?}")))?;
            session.free(buffer.id)?;
            drop((dma_buf, map));
            comes_to(&session, 0, 0)?;
        }
    }
    Ok(())
}

// Page frames have no pages that a driver could pin (`check_vma_flags` of mm/gup.c).
fn camera_fills_memory_where_it_is_mapped() -> Outcome {
    let session = Session::open()?;
    let mut camera = camera(BY_KERNEL_ADDRESS)?;
    let expected = picture(&mut camera)?;
    for kind in KINDS {
        let (buffer, map) = alloc(&session, kind, Cache::Cached, 67 * PAGE)?;
        if kind == Kind::Coherent {
            camera.request(Memory::User, 2)?;
            fails(camera.queue_mapped(0, &map), libc::EFAULT)?;
            camera.request(Memory::User, 0)?;
        } else {
            takes_a_picture(&mut camera, &expected, None, &map)
                .map_err(|failure| Failure::new(format!("{kind:?}: {failure:?}")))?;
        }
        session.free(buffer.id)?;
        drop(map);
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

// The camera's picture is where the device finds it, and what the device writes is where the program finds it.
fn camera_and_a_device_behind_an_iommu_share_a_buffer() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let iommu = Iommu::from_number(device(&session)?.iommu);
    check_eq!(iommu, Some(Iommu::Translated), "the IOMMU");
    set_mask(&session, 28)?;
    let engine = Engine::new(&bound)?;
    for (number, exported, kind) in [
        (BY_DMA_ADDRESS, true, Kind::Contiguous),
        (BY_KERNEL_ADDRESS, true, Kind::Vmalloc),
        (BY_KERNEL_ADDRESS, true, Kind::Pages),
        (BY_KERNEL_ADDRESS, false, Kind::Vmalloc),
        (BY_KERNEL_ADDRESS, false, Kind::Pages),
        (BY_KERNEL_ADDRESS, false, Kind::Contiguous),
    ] {
        let mut camera = camera(number)?;
        let expected = picture(&mut camera)?;
        let buffer = dma_buffer(&session, kind, HUGE as u64)?;
        let map = session.map(HUGE, RW, SHARED, buffer.mmap_offset)?;
        let dma_buf = match exported {
            true => Some(session.export(buffer.id)?),
            false => None,
        };
        takes_a_picture(&mut camera, &expected, dma_buf.as_ref(), &map).map_err(|failure| {
            Failure::new(format!("{kind:?}, exported: {exported}: {failure:?}"))
        })?;
        let address = session.info(buffer.id)?.dma_address;
        let word = |at: usize| map.bytes(at, 8);
        let at = (0..expected.len() - 8).step_by(8);
        let at = at.rev().find(|&at| word(at) != word(0)).unwrap_or(0);
        engine.copy(address + at as u64, address + (HUGE - 8) as u64)?;
        check_eq!(word(HUGE - 8), word(at), "{kind:?}: what the device copied");
        session.free(buffer.id)?;
        drop((dma_buf, map));
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

/// What a test draws: no two lines and no two neighbours alike.
fn drawn(at: usize) -> u8 {
    (at.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

/// That what a buffer holds goes to the screen, from there to the camera, and into another buffer.
fn loops(number: u32, from: &(File, Map), to: &(File, Map)) -> Outcome {
    let mut screen = Queue::open(number + 1, Way::Output)?;
    screen.hdmi()?;
    let mut camera = Queue::open(number, Way::Capture)?;
    camera.hdmi()?;
    camera.control(OSD_TEXT_MODE, 2)?;
    check_eq!(camera.bytes, 640 * 480, "bytes of a picture");
    for at in 0..camera.bytes {
        from.1.set_u8(at, drawn(at));
    }
    to.1.fill(u64::from_ne_bytes([BEFORE; 8]));
    screen.request(Memory::DmaBuf, 2)?;
    screen.queue(0, Some(&from.0))?;
    screen.start()?;
    camera.request(Memory::DmaBuf, 2)?;
    camera.start()?;
    let mut differs = None;
    for _ in 0..20 {
        // A change of this control starts work that may undo it: `update_hdmi_ctrls_work_handler` of
        // drivers/media/test-drivers/vivid/vivid-core.c looks at the old value, and waits for the lock only then. Until
        // that work is done the value may be refused, too.
        match camera.control(HDMI_IS_CONNECTED_TO, FIRST_OUTPUT + number / 2) {
            Ok(()) | Err(Errno(libc::EINVAL)) => {}
            Err(errno) => return Err(errno.into()),
        }
        camera.queue(0, Some(&to.0))?;
        check_eq!(camera.dequeue()?, 0, "place that has a picture");
        differs = (0..camera.bytes).find(|&at| to.1.u8(at) != drawn(at));
        if differs.is_none() {
            break;
        }
    }
    camera.stop()?;
    screen.stop()?;
    let found = differs.map(|at| (at, to.1.u8(at), drawn(at)));
    check_eq!(found, None, "first byte that came back wrong");
    let behind = (camera.bytes..to.1.len).find(|&at| to.1.u8(at) != BEFORE);
    check_eq!(behind, None, "first byte written behind the picture");
    let changed = (0..camera.bytes).find(|&at| from.1.u8(at) != drawn(at));
    check_eq!(changed, None, "first byte changed on the screen's side");
    camera.request(Memory::DmaBuf, 0)?;
    screen.request(Memory::DmaBuf, 0)?;
    Ok(())
}

fn screen_shows_what_a_buffer_holds() -> Outcome {
    let session = Session::open()?;
    for (number, kinds) in [
        (
            BY_DMA_ADDRESS,
            &[Kind::Contiguous, Kind::Coherent, Kind::Pages][..],
        ),
        (BY_KERNEL_ADDRESS, &KINDS),
    ] {
        for &kind in kinds {
            let mut ends = Vec::new();
            for _ in 0..2 {
                let (buffer, map) = session.mapped(kind, HUGE)?;
                ends.push((session.export(buffer.id)?, map));
                session.free(buffer.id)?;
            }
            loops(number, &ends[0], &ends[1])
                .map_err(|failure| Failure::new(format!("{kind:?}: {failure:?}")))?;
            drop(ends);
            comes_to(&session, 0, 0)?;
        }
    }
    Ok(())
}

// `vb2_dc_map_dmabuf`: "contiguous chunk is too small", EFAULT. Our list must say that the memory is in pieces.
fn scattered_buffer_is_refused_where_one_run_is_wanted() -> Outcome {
    let session = Session::open()?;
    let mut camera = camera(BY_DMA_ADDRESS)?;
    let (buffer, map) = numbered(&session, Kind::Vmalloc, 1024)?;
    check!(
        session.info(buffer.id)?.segments > 1,
        "1024 pages of vmalloc in one run"
    );
    let dma_buf = session.export(buffer.id)?;
    camera.request(Memory::DmaBuf, 2)?;
    let mut log = Log::from_now();
    fails(camera.queue(0, Some(&dma_buf)), libc::EFAULT)?;
    // The driver's own words for what it found in our list.
    let first = session.segments(buffer.id)?[0].length;
    let said = format!("contiguous chunk is too small {first}/{}", 1024 * PAGE);
    let lines = log.lines();
    check!(
        lines.iter().any(|line| line.contains(&said)),
        "not `{said}` but {lines:?}"
    );
    // Refused, it is as it was.
    shows(&map, 0, 1024, 0)?;
    session.free(buffer.id)?;
    drop((dma_buf, map));
    comes_to(&session, 0, 0)
}

// A reserved range has no `struct page`, which a scatter list is made of; nor may a device that imports read what may be
// another device's registers by the kernel's address.
fn region_is_refused_by_every_importer() -> Outcome {
    let node = Session::open_named("ring", true)?;
    let dma_buf = node.export(0)?;
    // `vb2_vmalloc_map_dmabuf` makes EFAULT of every error, and does not attach.
    let mut any = camera(BY_KERNEL_ADDRESS)?;
    any.request(Memory::DmaBuf, 2)?;
    fails(any.queue(0, Some(&dma_buf)), libc::EFAULT)?;
    check_eq!(node.of_dma_bufs()?.sequence, 0, "refusals before");
    let mut one_run = camera(BY_DMA_ADDRESS)?;
    one_run.request(Memory::DmaBuf, 2)?;
    let queued = one_run.queue(0, Some(&dma_buf));
    // The reason is there for this thread, on any open file.
    let session = Session::open()?;
    let said = Some(session.of_dma_bufs()?);
    refused(
        queued.map_err(|errno| Refused { errno, said }),
        Operation::ForeignAttach,
        Reason::NoPagesForDevices,
        &[Kind::Region.number().into()],
    )?;
    let elsewhere = std::thread::spawn(|| Session::open().map(|session| session.of_dma_bufs()));
    let elsewhere = elsewhere.join().ok().and_then(Result::ok);
    check!(
        matches!(elsewhere, Some(Ok(last)) if last.sequence == 0),
        "another thread was told"
    );
    // What needs no importer works: it is a dma-buf all the same.
    let map = Map::new(&dma_buf, PAGE, RW, SHARED, 0)?;
    map.set_u64(0, 7);
    check_eq!(map.u64(0), 7, "a word of the region");
    Ok(())
}

// `__prepare_dmabuf` of drivers/media/common/videobuf2/videobuf2-core.c: a dma-buf shorter than the picture is EINVAL,
// by the size that we gave it.
fn buffer_that_is_too_short_is_refused() -> Outcome {
    let session = Session::open()?;
    for number in [BY_DMA_ADDRESS, BY_KERNEL_ADDRESS] {
        let mut camera = camera(number)?;
        camera.request(Memory::DmaBuf, 2)?;
        let buffer = session.alloc(Kind::Contiguous, 14 * PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        fails(camera.queue(0, Some(&dma_buf)), libc::EINVAL)?;
        session.free(buffer.id)?;
    }
    comes_to(&session, 0, 0)
}

fn camera_keeps_a_buffer_that_nobody_else_has() -> Outcome {
    for number in [BY_DMA_ADDRESS, BY_KERNEL_ADDRESS] {
        let mut camera = camera(number)?;
        camera.request(Memory::DmaBuf, 2)?;
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Contiguous, 15 * PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        camera.queue(0, Some(&dma_buf))?;
        session.free(buffer.id)?;
        drop((dma_buf, session));
        // The camera alone has it now, and writes to it.
        let session = Session::open()?;
        comes_to(&session, 1, 15 * PAGE)?;
        camera.start()?;
        check_eq!(camera.dequeue()?, 0, "place that has a picture");
        camera.stop()?;
        comes_to(&session, 1, 15 * PAGE)?;
        fails(sys::unload_module("mapbuf"), libc::EAGAIN)?;
        camera.request(Memory::DmaBuf, 0)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn cpu_access_while_a_device_has_the_buffer() -> Outcome {
    // DMA_BUF_IOCTL_SYNC, _IOW('b', 0, u64): READ 1, WRITE 2, END 4.
    const SYNC: u32 = 1 << 30 | 8 << 16 | 0x62 << 8;
    let session = Session::open()?;
    let mut camera = camera(BY_DMA_ADDRESS)?;
    let expected = picture(&mut camera)?;
    for kind in [Kind::Contiguous, Kind::Coherent, Kind::Pages] {
        let (buffer, map) = session.mapped(kind, HUGE)?;
        let dma_buf = session.export(buffer.id)?;
        camera.request(Memory::DmaBuf, 2)?;
        camera.queue(0, Some(&dma_buf))?;
        // Its attachment is mapped for the device now.
        for flags in [1_u64, 5, 2, 6, 3, 7] {
            sys::ioctl_bytes(&dma_buf, SYNC, &mut flags.to_ne_bytes())?;
        }
        camera.start()?;
        check_eq!(camera.dequeue()?, 0, "place that has a picture");
        sys::ioctl_bytes(&dma_buf, SYNC, &mut 1_u64.to_ne_bytes())?;
        check!(
            map.bytes(0, expected.len()) == expected,
            "{kind:?}: another picture"
        );
        sys::ioctl_bytes(&dma_buf, SYNC, &mut 5_u64.to_ne_bytes())?;
        camera.stop()?;
        camera.request(Memory::DmaBuf, 0)?;
        session.free(buffer.id)?;
    }
    Ok(())
}

fn camera_of_a_killed_process_gives_the_buffer_back() -> Outcome {
    let session = Session::open()?;
    for number in [BY_DMA_ADDRESS, BY_KERNEL_ADDRESS] {
        let (mut read, write) = sys::pipe()?;
        let child = fork(move || {
            let stream = || -> Outcome {
                let session = Session::open()?;
                let mut camera = camera(number)?;
                camera.request(Memory::DmaBuf, 2)?;
                let (buffer, _map) = session.mapped(Kind::Contiguous, 15 * PAGE)?;
                let dma_buf = session.export(buffer.id)?;
                camera.queue(0, Some(&dma_buf))?;
                camera.start()?;
                camera.dequeue()?;
                camera.queue(0, Some(&dma_buf))?;
                std::io::Write::write_all(&mut &write, b"runs")?;
                std::thread::sleep(std::time::Duration::from_secs(60));
                Ok(())
            };
            i32::from(stream().is_err())
        })?;
        let mut word = [0; 4];
        std::io::Read::read_exact(&mut read, &mut word)?;
        comes_to(&session, 1, 15 * PAGE)?;
        child.kill(libc::SIGKILL);
        child.wait();
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

// drivers/gpu/drm/drm_gem_shmem_helper.c, `drm_gem_shmem_prime_import_no_map`: vgem attaches, and holds the dma-buf; a
// handle that was imported is exported again as the dma-buf that it came from
// (drivers/gpu/drm/drm_prime.c, `drm_gem_prime_handle_to_dmabuf`).
fn graphics_handle_keeps_the_buffer() -> Outcome {
    let card = Card::open()?;
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 16)?;
        let dma_buf = session.export(buffer.id)?;
        let handle = card.import(&dma_buf)?;
        drop((dma_buf, map, session));
        let session = Session::open()?;
        comes_to(&session, 1, 16 * PAGE)?;
        let again = card.export(handle)?;
        shows(&Map::new(&again, 16 * PAGE, RW, SHARED, 0)?, 0, 16, 0)?;
        drop(again);
        card.close(handle)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

// The card maps a buffer when it first uses it, which it does not here.
fn graphics_card_that_has_a_buffer_is_counted() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, HUGE)?;
    let dma_buf = session.export(buffer.id)?;
    let before = counts();
    let card = Card::open()?;
    let handle = card.import(&dma_buf)?;
    more(&before, &[("attachments", 1)])?;
    let mut by_dma_address = camera(BY_DMA_ADDRESS)?;
    by_dma_address.request(Memory::DmaBuf, 2)?;
    by_dma_address.queue(0, Some(&dma_buf))?;
    more(&before, &[("attachments", 2), ("device_mappings", 1)])?;
    by_dma_address.request(Memory::DmaBuf, 0)?;
    more(&before, &[("attachments", 1)])?;
    card.close(handle)?;
    more(&before, &[])
}

fn devices_that_have_a_buffer_are_counted() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, HUGE)?;
    let dma_buf = session.export(buffer.id)?;
    let before = counts();

    // A camera maps a buffer as soon as it is handed one.
    let mut by_dma_address = camera(BY_DMA_ADDRESS)?;
    by_dma_address.request(Memory::DmaBuf, 2)?;
    by_dma_address.queue(0, Some(&dma_buf))?;
    more(&before, &[("attachments", 1), ("device_mappings", 1)])?;
    by_dma_address.request(Memory::DmaBuf, 0)?;
    more(&before, &[])?;

    let scattered = session.alloc(Kind::Pages, 15 * PAGE)?;
    let dma_buf = session.export(scattered.id)?;
    let before = counts();
    let mut by_kernel_address = camera(BY_KERNEL_ADDRESS)?;
    by_kernel_address.request(Memory::DmaBuf, 2)?;
    by_kernel_address.queue(0, Some(&dma_buf))?;
    more(&before, &[("kernel_addresses", 1)])?;
    by_kernel_address.request(Memory::DmaBuf, 0)?;
    more(&before, &[])
}

// `dma_buf_vmap` of drivers/dma-buf/dma-buf.c warns of any error of ours, so being killed must not be one.
fn killed_process_leaves_no_warning() -> Outcome {
    const ROUNDS: u32 = 40;
    let session = Session::open()?;
    let scattered = session.alloc(Kind::Pages, (64 << 20) + PAGE)?;
    let dma_buf = session.export(scattered.id)?;
    for round in 0..ROUNDS {
        let (mut read, write) = sys::pipe()?;
        let child = fork(|| {
            let queue = || -> Outcome {
                let mut camera = camera(BY_KERNEL_ADDRESS)?;
                camera.request(Memory::DmaBuf, 2)?;
                std::io::Write::write_all(&mut &write, b"goes")?;
                loop {
                    camera.queue(0, Some(&dma_buf))?;
                    camera.request(Memory::DmaBuf, 0)?;
                    camera.request(Memory::DmaBuf, 2)?;
                }
            };
            i32::from(queue().is_err())
        })?;
        let mut word = [0; 4];
        std::io::Read::read_exact(&mut read, &mut word)?;
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 397));
        child.kill(libc::SIGKILL);
        check_eq!(
            child.wait(),
            sys::Ending::Signalled(libc::SIGKILL),
            "round {round}, the child's end"
        );
    }
    session.free(scattered.id)?;
    drop(dma_buf);
    comes_to(&session, 0, 0)
}
