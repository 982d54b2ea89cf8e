//! A device that comes and goes, and what its node can do.

use super::sweep::{plain, sweep, Answers};
use crate::check::{Failure, Outcome};
use crate::importer::{Importer, AT_ONCE, LETS_GO};
use crate::session::{alloc_request, Refused, Session, KINDS};
use crate::sys::{self, Errno, Map, PAGE, RW, SHARED};
use crate::tests::attached::{attach, detach, device_rows, BOTH};
use crate::tests::devices::{device, Bound};
use crate::tests::foreign::imported;
use crate::tests::interrupts::{vector, Event};
use crate::tests::registers::bar;
use crate::{check, check_eq};
use mapbuf_abi::{
    alloc, config, import, ioctl, sync, Alloc, Cache, Config, DmaMask, IrqAction, IrqKind, Kind,
    Operation, Reason, Sync,
};
use std::fs;
use std::path::Path;

tests! { "faults":
    BINDING, 240: [
        bind_with_failing_memory,
        unbind_with_failing_memory,
        importer_of_a_device_s_memory_with_failing_memory,
    ];
    BOUND, 240: [
        open_of_a_device_with_failing_memory,
        device_buffers_with_failing_memory,
        attach_and_detach_with_failing_memory,
        import_for_a_device_with_failing_memory,
        sync_with_failing_copies,
        mask_with_failing_copies,
        interrupts_with_failing_memory,
        registers_with_failing_memory,
        configuration_with_failing_copies,
        device_mmap_with_failing_memory,
    ];
}

const DRIVER: &str = "/sys/bus/pci/drivers/mapbuf";

/// A write to a file of sysfs, as one system call.
fn tell(file: &fs::File, text: &str) -> Result<(), Refused> {
    use std::io::Write;
    let written = (&*file).write(text.as_bytes());
    match written {
        Ok(_) => Ok(()),
        Err(error) => Err(plain(Errno::from(error))),
    }
}

fn bind_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let address = bound.0.clone();
    let bind = fs::File::options()
        .write(true)
        .open(format!("{DRIVER}/bind"))?;
    bound.unbind()?;
    let link = format!("{DRIVER}/{address}");
    sweep(
        "bind",
        Answers::Kernel,
        || Ok(()),
        |()| tell(&bind, &address),
        |(), result| {
            let there = Path::new(&link).exists();
            let node = bound.node();
            check!(there || result.is_err(), "it is not bound");
            check!(there || !Path::new(&node).exists(), "there is a node");
            // The write may have failed behind the driver, which has the device then. Nor does `device_add` look at what
            // `devtmpfs_create_node` answers.
            if !there || !Path::new(&node).exists() {
                // It is not bound, perhaps.
                let _ = bound.unbind();
                tell(&bind, &address)
                    .map_err(|no| Failure::new(format!("it cannot be bound again: {no}")))?;
            }
            let session = bound.open()?;
            let buffer = session.alloc(Kind::Coherent, PAGE)?;
            session.free(buffer.id)?;
            drop(session);
            bound.unbind()?;
            check!(!Path::new(&bound.node()).exists(), "the node stays");
            Ok(())
        },
    )
}

fn unbind_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let unbind = fs::File::options()
        .write(true)
        .open(format!("{DRIVER}/unbind"))?;
    bound.unbind()?;
    sweep(
        "unbind",
        Answers::Kernel,
        || {
            let bound = Bound::edu()?;
            let session = bound.open()?;
            let buffer = session.alloc(Kind::Coherent, 2 * PAGE)?;
            let map = session.map(2 * PAGE, RW, SHARED, buffer.mmap_offset)?;
            map.set_u32(0, 7);
            let pages = session.alloc(Kind::Pages, PAGE)?;
            attach(&session, pages.id, BOTH)?;
            let event = Event::new()?;
            // Not without ACPI, which has the controller's address.
            let _ = vector(&session, IrqKind::Msi).set(&event);
            bar(&session, 0, Cache::Uncached, 0)?;
            Ok((bound, session, map, event))
        },
        |(bound, ..)| tell(&unbind, &bound.0),
        |(bound, session, ..), result| {
            let there = device(&session)?.state & mapbuf_abi::device_state::PRESENT != 0;
            check!(!there || result.is_err(), "it is still there");
            if there {
                bound.unbind()?;
            }
            let node = bound.node();
            if Path::new(&node).exists() {
                // Nor does `device_del` look at what `devtmpfs_delete_node` answers. Nothing is behind the node.
                check!(
                    Session::open_path(&node, true).is_err(),
                    "the node of a device that is gone can be opened"
                );
                fs::remove_file(&node)?;
            }
            Ok(())
        },
    )
}

/// All that another driver does with memory of a device, from the descriptor to the device's end.
fn importer_of_a_device_s_memory_with_failing_memory() -> Outcome {
    const WORD: u64 = 0x1122_3344_5566_7788;
    let bound = Bound::edu()?;
    let unbind = fs::File::options()
        .write(true)
        .open(format!("{DRIVER}/unbind"))?;
    bound.unbind()?;
    sweep(
        "EXPORT, attach, map and unbind",
        Answers::Kernel,
        || {
            let bound = Bound::edu()?;
            let session = bound.open()?;
            let (buffer, map) = session.mapped(Kind::Coherent, 2 * PAGE)?;
            map.set_u64(PAGE, WORD);
            Ok((bound, session, buffer.id, map, Importer::open()?))
        },
        |(bound, session, id, _, importer)| {
            let dma_buf = session.export(*id)?;
            importer
                .attach(&dma_buf, LETS_GO | AT_ONCE, "")
                .map_err(plain)?;
            importer.map().map_err(plain)?;
            let word = importer.read(PAGE).map_err(plain)?;
            tell(&unbind, &bound.0)?;
            Ok(word)
        },
        |(bound, session, id, map, importer), result| {
            if let Ok(word) = result {
                check_eq!(word, WORD, "what the importer read");
            }
            if device(&session)?.state & mapbuf_abi::device_state::PRESENT != 0 {
                // It failed somewhere on the way: as if nothing had been tried.
                check_eq!(map.u64(PAGE), WORD, "the word in the mapping");
                check_eq!(
                    session.info(id)?.bytes as usize,
                    2 * PAGE,
                    "bytes of the buffer"
                );
                bound.unbind()?;
            }
            check_eq!(importer.told()?.mapped, 0, "whether it has it still");
            check!(importer.map().is_err(), "it gets what is gone");
            if Path::new(&bound.node()).exists() {
                // As in the sweep of unbind alone.
                fs::remove_file(bound.node())?;
            }
            Ok(())
        },
    )
}

fn open_of_a_device_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    sweep(
        "open of a device",
        Answers::Kernel,
        || Ok(()),
        |()| Session::open_path(bound.node(), true).map_err(plain),
        |(), result| {
            let session = result.map_or_else(|_| bound.open(), Ok)?;
            device(&session).map(drop)
        },
    )
}

fn device_buffers_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    for kind in KINDS {
        for flags in [0, alloc::FOR_DEVICE] {
            for pages in [1, 9] {
                sweep(
                    &format!(
                        "ALLOC of {pages} pages {} on a device, {flags}",
                        kind.name()
                    ),
                    Answers::Driver(Operation::Alloc),
                    || Ok(()),
                    |()| {
                        let bytes = (pages * PAGE) as u64;
                        let request = alloc_request(kind, bytes);
                        session.ioctl(ioctl::ALLOC, Alloc { flags, ..request })
                    },
                    |(), result| match result {
                        Ok(buffer) => Ok(session.free(buffer.id)?),
                        Err(_) => Ok(()),
                    },
                )?;
            }
        }
    }
    Ok(())
}

fn attach_and_detach_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        let buffer = session.alloc(kind, 9 * PAGE)?;
        sweep(
            &format!("ATTACH of {}", kind.name()),
            Answers::Driver(Operation::Attach),
            || Ok(()),
            |()| attach(&session, buffer.id, BOTH),
            |(), result| {
                match result {
                    Ok(_) => device_rows(&session, buffer.id, 9).map(drop)?,
                    // Its answer could not be copied; or nothing was done.
                    Err(_) => {
                        let attached = device_rows(&session, buffer.id, 9).is_ok();
                        check!(!attached, "it is attached in spite of the error");
                        return Ok(());
                    }
                }
                Ok(detach(&session, buffer.id)?)
            },
        )?;
        sweep(
            &format!("DETACH of {}", kind.name()),
            Answers::Driver(Operation::Detach),
            || Ok(attach(&session, buffer.id, BOTH).map(drop)?),
            |()| detach(&session, buffer.id),
            |(), result| {
                if result.is_err() {
                    detach(&session, buffer.id)?;
                }
                Ok(())
            },
        )?;
        session.free(buffer.id)?;
    }
    Ok(())
}

fn import_for_a_device_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let exporter = Importer::open()?;
    let own = session.alloc(Kind::Pages, 9 * PAGE)?;
    let dma_bufs = [session.export(own.id)?, exporter.export(false)?];
    for (whose, dma_buf) in ["ours", "another driver's"].iter().zip(&dma_bufs) {
        sweep(
            &format!("IMPORT of {whose} for a device"),
            // The exporter's function says why, and that is told.
            Answers::DriverOr(Operation::Import, Reason::ExporterRefusedDevice),
            || Ok(()),
            |()| imported(&session, dma_buf, import::FOR_DEVICE),
            |(), result| {
                if let Ok(told) = result {
                    device_rows(&session, told.id, 9).map(drop)?;
                    session.free(told.id)?;
                }
                check_eq!(exporter.told()?.pinned, 0, "pins that are left");
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn sync_with_failing_copies() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    attach(&session, buffer.id, BOTH)?;
    sweep(
        "SYNC",
        Answers::Driver(Operation::Sync),
        || Ok(()),
        |()| {
            let request = Sync {
                size: size_of::<Sync>() as u32,
                flags: sync::BEGIN,
                id: buffer.id,
                direction: BOTH,
                length: 64,
                ..Default::default()
            };
            session.ioctl(ioctl::SYNC, request)
        },
        |(), _| Ok(()),
    )
}

fn mask_with_failing_copies() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    sweep(
        "DMA_MASK",
        Answers::Driver(Operation::DmaMask),
        || Ok(()),
        |()| {
            let request = DmaMask {
                size: size_of::<DmaMask>() as u32,
                bits: 32,
                ..Default::default()
            };
            session.ioctl(ioctl::DMA_MASK, request)
        },
        |(), _| Ok(()),
    )?;
    sweep(
        "DEVICE",
        Answers::Driver(Operation::Device),
        || Ok(()),
        |()| {
            let request = mapbuf_abi::Device {
                size: size_of::<mapbuf_abi::Device>() as u32,
                ..Default::default()
            };
            session.ioctl(ioctl::DEVICE, request)
        },
        |(), _| Ok(()),
    )
}

fn interrupts_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    for kind in [IrqKind::Msi, IrqKind::Intx] {
        sweep(
            &format!("IRQ, set, {kind:?}"),
            Answers::Driver(Operation::Irq),
            || {
                let events = [Event::new()?, Event::new()?];
                // A message is taken before: `unregister_irq_proc` of kernel/irq/proc.c warns of a directory that could not be
                // made when it was.
                if kind == IrqKind::Msi {
                    vector(&session, kind).set(&events[0])?;
                }
                Ok(events)
            },
            |events| vector(&session, kind).set(&events[1]),
            |events, result| {
                let irq = vector(&session, kind);
                if result.is_err() {
                    // Whatever was taken by half is no hindrance.
                    irq.set(&events[1])?;
                }
                irq.act(IrqAction::Trigger)?;
                check!(events[1].came_within(10_000), "the interrupt does not come");
                Ok(irq.unset().map(drop)?)
            },
        )?;
    }
    Ok(())
}

fn registers_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    sweep(
        "BAR",
        // `__request_region` of kernel/resource.c answers with nothing in both cases.
        Answers::DriverOr(Operation::Bar, Reason::BarTaken),
        || Ok(()),
        |()| bar(&session, 0, Cache::Uncached, 0),
        |(), result| {
            let shown = result.map_or_else(|_| bar(&session, 0, Cache::Uncached, 0), Ok)?;
            let mut word = [0; 4];
            session.pread(&mut word, shown.mmap_offset)?;
            check_eq!(word[0], 0xed, "what edu says it is");
            Ok(session.free(shown.id)?)
        },
    )
}

fn configuration_with_failing_copies() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    // The command register, which is given what it has.
    let ask = |flags, value| {
        let request = Config {
            size: size_of::<Config>() as u32,
            flags,
            offset: 4,
            width: 2,
            value,
            ..Default::default()
        };
        session.ioctl(ioctl::CONFIG, request)
    };
    let command = ask(0, 0)?.value;
    for (flags, value) in [(0, 0), (config::WRITE, command)] {
        sweep(
            &format!("CONFIG, {flags}"),
            Answers::Driver(Operation::Config),
            || Ok(()),
            |()| ask(flags, value),
            |(), _| Ok(()),
        )?;
    }
    Ok(())
}

fn device_mmap_with_failing_memory() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let coherent = session.alloc(Kind::Coherent, 9 * PAGE)?.mmap_offset;
    let registers = bar(&session, 0, Cache::Uncached, 0)?.mmap_offset;
    for (what, offset) in [("memory", coherent), ("registers", registers)] {
        sweep(
            &format!("mmap of a device's {what}"),
            Answers::Either(Operation::Mmap),
            || Ok(()),
            |()| session.map(9 * PAGE, RW, SHARED, offset),
            |(), result| {
                let map: Option<Map> = result.ok();
                map.map_or(Ok(()), |map| {
                    map.u32(0);
                    Ok(())
                })
            },
        )?;
    }
    sys::reap();
    Ok(())
}
