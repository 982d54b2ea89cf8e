//! Every ioctl with a struct that is too short, too long, newer, unreadable, unwritable, or has bits set that
//! nobody knows; and ioctls that do not exist.

use crate::check::{fails, refused, Failure, Outcome};
use crate::session::{alloc_request, name_request, padded, Session};
use crate::sys::{self, bytes_of, Map, PAGE, READ, RW};
use crate::{check, check_eq};
use mapbuf_abi::{
    ioctl, last_error, Alloc, Export, Free, Import, Info, Kind, LastError, Method, Offset,
    Operation, Query, Reason, Refused, Region, Segments, Unname, MAGIC, MAX_STRUCT_SIZE,
};
use std::collections::BTreeSet;
use std::os::fd::IntoRawFd;

tests! { "structs":
    STOCK, 20: [
        as_they_are_they_work,
        short_struct_is_refused,
        long_struct_with_a_zero_tail_works,
        long_struct_with_a_set_tail_is_refused,
        struct_longer_than_any_is_refused,
        unreadable_struct_is_refused,
        struct_that_ends_in_unreadable_memory_is_refused,
        unwritable_struct_is_refused_and_nothing_stays,
        unknown_flags_are_refused,
        reserved_fields_must_be_zero,
        output_fields_are_not_read,
        nothing_but_output_fields_is_written,
        structs_of_the_first_version_work,
        struct_tells_the_reason_as_far_as_it_reaches,
        encoded_size_and_direction_do_not_matter,
        unknown_numbers_are_no_ioctls,
        other_types_are_no_ioctls,
        read_only_session_may_look_and_not_touch,
    ];
}

/// One ioctl, and how to call it rightly.
struct Case {
    operation: Operation,
    number: u32,
    /// Sets the stage and gives the struct.
    valid: fn(&Session) -> Outcome<Vec<u8>>,
    /// Clears what a call may have left (it may also have been refused).
    after: fn(&Session),
    /// Offset and size of the fields that must be zero.
    reserved: &'static [(usize, usize)],
    /// Offset and length of the fields that the driver fills.
    output: &'static [(usize, usize)],
}

const NAME: &str = "structs-test";

fn buffer(session: &Session) -> Outcome<u32> {
    Ok(session.alloc(Kind::Vmalloc, PAGE)?.id)
}

fn nothing(_: &Session) {}

fn unname(session: &Session) {
    // It is there only if the call worked.
    let _ = session.unname(NAME);
}

const CASES: &[Case] = &[
    Case {
        operation: Operation::Query,
        number: ioctl::QUERY,
        valid: |_| {
            Ok(bytes_of(&Query {
                size: size_of::<Query>() as u32,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[],
        output: &[(8, 72)],
    },
    Case {
        operation: Operation::Alloc,
        number: ioctl::ALLOC,
        valid: |_| Ok(bytes_of(&alloc_request(Kind::Vmalloc, 1))),
        after: nothing,
        reserved: &[(56, 8)],
        output: &[(32, 8)],
    },
    Case {
        operation: Operation::Free,
        number: ioctl::FREE,
        valid: |session| {
            let id = buffer(session)?;
            Ok(bytes_of(&Free {
                size: size_of::<Free>() as u32,
                id,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[(12, 4)],
        output: &[],
    },
    Case {
        operation: Operation::Info,
        number: ioctl::INFO,
        valid: |session| {
            let id = buffer(session)?;
            Ok(bytes_of(&Info {
                size: size_of::<Info>() as u32,
                id,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[],
        output: &[(12, 124)],
    },
    Case {
        operation: Operation::Segments,
        number: ioctl::SEGMENTS,
        valid: |session| {
            let id = buffer(session)?;
            Ok(bytes_of(&Segments {
                size: size_of::<Segments>() as u32,
                id,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[],
        // `rows` is not looked at either when there is no room for one.
        output: &[(20, 12)],
    },
    Case {
        operation: Operation::Offset,
        number: ioctl::OFFSET,
        valid: |session| {
            let id = buffer(session)?;
            let method = Method::Auto.number();
            Ok(bytes_of(&Offset {
                size: size_of::<Offset>() as u32,
                id,
                method,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[(24, 8)],
        output: &[(16, 8)],
    },
    Case {
        operation: Operation::Export,
        number: ioctl::EXPORT,
        valid: |session| {
            let id = buffer(session)?;
            Ok(bytes_of(&Export {
                size: size_of::<Export>() as u32,
                id,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[],
        output: &[(12, 4)],
    },
    Case {
        operation: Operation::Import,
        number: ioctl::IMPORT,
        valid: |session| {
            let dma_buf = session.export(buffer(session)?)?;
            let request = Import {
                size: size_of::<Import>() as u32,
                // It stays open until the process ends.
                fd: dma_buf.into_raw_fd(),
                ..Default::default()
            };
            Ok(bytes_of(&request))
        },
        after: nothing,
        reserved: &[],
        output: &[(16, 16)],
    },
    Case {
        operation: Operation::Region,
        number: ioctl::REGION,
        valid: |_| {
            let mut bytes = vec![0; size_of::<Region>()];
            set_size(&mut bytes, size_of::<Region>() as u32);
            Ok(bytes)
        },
        after: nothing,
        reserved: &[],
        output: &[(12, size_of::<Region>() - size_of::<Refused>() - 12)],
    },
    Case {
        operation: Operation::LastError,
        number: ioctl::LAST_ERROR,
        valid: |_| {
            Ok(bytes_of(&LastError {
                size: size_of::<LastError>() as u32,
                ..Default::default()
            }))
        },
        after: nothing,
        reserved: &[],
        output: &[(8, 20), (32, 32)],
    },
    Case {
        operation: Operation::Name,
        number: ioctl::NAME,
        valid: |session| {
            Ok(bytes_of(&name_request(
                buffer(session)?,
                NAME.as_bytes(),
                0o600,
            )))
        },
        after: unname,
        reserved: &[],
        output: &[],
    },
    Case {
        operation: Operation::Unname,
        number: ioctl::UNNAME,
        valid: |session| {
            unname(session);
            session.name(buffer(session)?, NAME, 0o600)?;
            Ok(bytes_of(&Unname {
                size: size_of::<Unname>() as u32,
                flags: 0,
                name: padded(NAME.as_bytes()),
                refused: Default::default(),
            }))
        },
        after: unname,
        reserved: &[],
        output: &[],
    },
];

/// Runs a check for every ioctl, in a session of its own.
fn each(check: impl Fn(&Session, &Case) -> Outcome) -> Outcome {
    for case in CASES {
        let session = Session::open()?;
        let result = check(&session, case);
        (case.after)(&session);
        result.map_err(|failure| match failure {
            Failure::Failed(why) => Failure::Failed(format!("{:?}: {why}", case.operation)),
            skipped => skipped,
        })?;
    }
    Ok(())
}

/// Bytes that a struct had before it had room for why it is refused.
fn first_version(valid: &[u8]) -> usize {
    valid.len() - size_of::<Refused>()
}

// Programs that were built before structs had room for the reason.
fn structs_of_the_first_version_work() -> Outcome {
    each(|session, case| {
        let mut bytes = (case.valid)(session)?;
        let size = first_version(&bytes);
        bytes[size..].fill(0x5a);
        set_size(&mut bytes, size as u32);
        session.ioctl_bytes(case.number, &mut bytes)?;
        check!(
            bytes[size..].iter().all(|byte| *byte == 0x5a),
            "written behind it"
        );
        Ok(())
    })
}

// The reason is where the struct has room for all of it, and nowhere else.
fn struct_tells_the_reason_as_far_as_it_reaches() -> Outcome {
    each(|session, case| {
        let valid = (case.valid)(session)?;
        let (first, whole) = (first_version(&valid), valid.len());
        for size in [first, first + 8, whole - 8, whole, whole + 8] {
            let mut bytes = valid.clone();
            bytes.resize(whole + 8, 0);
            set_size(&mut bytes, size as u32);
            // Flags that nobody knows.
            bytes[7] = 0x80;
            let before = bytes.clone();
            let result = session.ioctl_bytes(case.number, &mut bytes);
            refused(result, case.operation, Reason::UnknownFlags, &[])?;
            let last = session.last_error()?;
            let mut expected = before;
            if size >= whole {
                let told = Refused {
                    reason: Reason::UnknownFlags.number(),
                    errno: libc::EINVAL,
                    operands: last.operands,
                };
                expected[first..whole].copy_from_slice(&bytes_of(&told));
            }
            check_eq!(bytes, expected, "a struct of {size} bytes that is refused");
        }
        Ok(())
    })
}

fn set_size(bytes: &mut [u8], size: u32) {
    bytes[..4].copy_from_slice(&size.to_ne_bytes());
}

fn as_they_are_they_work() -> Outcome {
    each(|session, case| {
        let mut bytes = (case.valid)(session)?;
        check_eq!(
            session.ioctl_bytes(case.number, &mut bytes)?,
            0,
            "return value"
        );
        Ok(())
    })
}

fn short_struct_is_refused() -> Outcome {
    each(|session, case| {
        let valid = (case.valid)(session)?;
        let least = first_version(&valid) as u32;
        for size in [0, 1, 4, 8, least - 8, least - 1] {
            let mut bytes = valid.clone();
            set_size(&mut bytes, size);
            let result = session.ioctl_bytes(case.number, &mut bytes);
            refused(
                result,
                case.operation,
                Reason::StructTooShort,
                &[size.into(), least.into()],
            )?;
        }
        // None of these had an effect.
        session.ioctl_bytes(case.number, &mut valid.clone())?;
        Ok(())
    })
}

fn long_struct_with_a_zero_tail_works() -> Outcome {
    for more in [1, 8, 64, usize::MAX] {
        each(|session, case| {
            let mut bytes = (case.valid)(session)?;
            let size = bytes
                .len()
                .saturating_add(more)
                .min(MAX_STRUCT_SIZE as usize);
            let known = bytes.len();
            bytes.resize(size, 0);
            set_size(&mut bytes, size as u32);
            session.ioctl_bytes(case.number, &mut bytes)?;
            check!(
                bytes[known..].iter().all(|byte| *byte == 0),
                "the tail was written"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn long_struct_with_a_set_tail_is_refused() -> Outcome {
    for (more, at) in [(1, 0), (8, 0), (8, 7), (64, 33)] {
        each(|session, case| {
            let valid = (case.valid)(session)?;
            let mut bytes = valid.clone();
            bytes.resize(valid.len() + more, 0);
            let size = bytes.len() as u32;
            set_size(&mut bytes, size);
            bytes[valid.len() + at] = 1;
            let result = session.ioctl_bytes(case.number, &mut bytes);
            refused(
                result,
                case.operation,
                Reason::StructTooNew,
                &[size.into(), valid.len() as u64],
            )?;
            session.ioctl_bytes(case.number, &mut valid.clone())?;
            Ok(())
        })?;
    }
    Ok(())
}

fn struct_longer_than_any_is_refused() -> Outcome {
    each(|session, case| {
        for size in [MAX_STRUCT_SIZE + 1, 1 << 20, u32::MAX] {
            let mut bytes = (case.valid)(session)?;
            set_size(&mut bytes, size);
            let result = session.ioctl_bytes(case.number, &mut bytes);
            refused(
                result,
                case.operation,
                Reason::StructTooLong,
                &[size.into(), MAX_STRUCT_SIZE.into()],
            )?;
        }
        Ok(())
    })
}

fn unreadable_struct_is_refused() -> Outcome {
    each(|session, case| {
        // Page zero, the hole between the halves of the address space, and the kernel's half.
        for address in [0, 8, 1 << 62, 0xffff_8880_0000_0000, usize::MAX - 7] {
            let result = session.explain(sys::ioctl_nowhere(session, case.number, address));
            refused(
                result,
                case.operation,
                Reason::BadAddress,
                &[address as u64],
            )?;
        }
        Ok(())
    })
}

fn struct_that_ends_in_unreadable_memory_is_refused() -> Outcome {
    each(|session, case| {
        let valid = (case.valid)(session)?;
        let memory = Map::anonymous(2 * PAGE)?;
        memory.protect_part(PAGE, PAGE, libc::PROT_NONE)?;
        // The size can be read, the rest cannot.
        let at = PAGE - 8;
        memory.set_bytes(at, &valid[..8]);
        let result = session.explain(sys::ioctl_mapped(session, case.number, &memory, at));
        refused(result, case.operation, Reason::BadAddress, &[])?;
        // The struct can be read, the tail that it promises cannot.
        let at = PAGE - valid.len();
        memory.set_bytes(at, &valid);
        memory.set_u32(at, valid.len() as u32 + 8);
        let result = session.explain(sys::ioctl_mapped(session, case.number, &memory, at));
        refused(result, case.operation, Reason::BadAddress, &[])?;
        // Not a byte is looked at that the size does not cover.
        memory.set_u32(at, valid.len() as u32);
        session.explain(sys::ioctl_mapped(session, case.number, &memory, at))?;
        Ok(())
    })
}

/// The descriptors of this process.
fn descriptors() -> Outcome<BTreeSet<String>> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

// An id, a descriptor or a name that the caller never hears of must not exist (drivers/dma-buf/dma-heap.c has the
// precedent: its struct is copied back before the descriptor is installed).
fn unwritable_struct_is_refused_and_nothing_stays() -> Outcome {
    each(|session, case| {
        if case.output.is_empty() {
            return Ok(());
        }
        let valid = (case.valid)(session)?;
        let memory = Map::anonymous(PAGE)?;
        memory.set_bytes(0, &valid);
        memory.protect(READ)?;
        let buffers = session.query()?.buffers;
        let open = descriptors()?;
        for _ in 0..2 {
            let result = session.explain(sys::ioctl_mapped(session, case.number, &memory, 0));
            refused(
                result,
                case.operation,
                Reason::BadAddress,
                &[memory.start as u64],
            )?;
        }
        let gone = sys::until(std::time::Duration::from_secs(2), || {
            session.query().is_ok_and(|query| query.buffers == buffers)
        });
        check!(gone, "a buffer stays that nobody knows the id of");
        check_eq!(descriptors()?, open, "open descriptors");
        memory.protect(RW)?;
        session.explain(sys::ioctl_mapped(session, case.number, &memory, 0))?;
        Ok(())
    })
}

fn unknown_flags_are_refused() -> Outcome {
    each(|session, case| {
        let valid = (case.valid)(session)?;
        let known = match case.operation {
            Operation::Alloc => mapbuf_abi::alloc::FOR_DEVICE,
            Operation::Segments => mapbuf_abi::segments::FOR_DEVICE,
            Operation::Import => mapbuf_abi::import::FOR_DEVICE,
            Operation::LastError => last_error::OF_DMA_BUFS,
            _ => 0,
        };
        for flags in [1_u32, 1 << 15, 1 << 31, u32::MAX] {
            if flags & !known == 0 {
                continue;
            }
            let mut bytes = valid.clone();
            bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
            let result = session.ioctl_bytes(case.number, &mut bytes);
            refused(
                result,
                case.operation,
                Reason::UnknownFlags,
                &[flags.into(), known.into()],
            )?;
        }
        session.ioctl_bytes(case.number, &mut valid.clone())?;
        Ok(())
    })
}

fn reserved_fields_must_be_zero() -> Outcome {
    each(|session, case| {
        let valid = (case.valid)(session)?;
        for &(field, size) in case.reserved {
            for at in [field, field + size - 1] {
                let mut bytes = valid.clone();
                bytes[at] = 0x80;
                let result = session.ioctl_bytes(case.number, &mut bytes);
                refused(
                    result,
                    case.operation,
                    Reason::ReservedNotZero,
                    &[field as u64],
                )?;
            }
        }
        session.ioctl_bytes(case.number, &mut valid.clone())?;
        Ok(())
    })
}

fn output_fields_are_not_read() -> Outcome {
    each(|session, case| {
        let mut bytes = (case.valid)(session)?;
        for &(field, size) in case.output {
            bytes[field..field + size].fill(0xff);
        }
        session.ioctl_bytes(case.number, &mut bytes)?;
        Ok(())
    })
}

// A struct is answered in the bytes that it came in, so whatever the driver does not set must come back as it was; and
// nothing behind its end is touched, however long the caller says that it is.
fn nothing_but_output_fields_is_written() -> Outcome {
    const TAIL: usize = 64;
    each(|session, case| {
        let mut bytes = (case.valid)(session)?;
        let length = bytes.len();
        bytes.resize(length + TAIL, 0);
        set_size(&mut bytes, (length + TAIL) as u32);
        let before = bytes.clone();
        session.ioctl_bytes(case.number, &mut bytes)?;
        for (at, (was, is)) in before.iter().zip(&bytes).enumerate() {
            let id_or_bytes = match case.operation {
                // In and out: the id, and the size that was rounded up.
                Operation::Alloc => (8..16).contains(&at) || (28..32).contains(&at),
                Operation::Import => (12..16).contains(&at),
                Operation::Segments => (16..20).contains(&at),
                _ => false,
            };
            let output = case
                .output
                .iter()
                .any(|&(field, size)| (field..field + size).contains(&at));
            check!(
                was == is || output || id_or_bytes,
                "{:?}: byte {at} was {was:#x}, is {is:#x}",
                case.operation
            );
        }
        Ok(())
    })
}

fn encoded_size_and_direction_do_not_matter() -> Outcome {
    each(|session, case| {
        let number = case.number & 0xffff;
        for number in [number, number | 1 << 30, number | 0x3fff << 16] {
            let mut bytes = (case.valid)(session)?;
            session.ioctl_bytes(number, &mut bytes)?;
            (case.after)(session);
        }
        Ok(())
    })
}

fn unknown_numbers_are_no_ioctls() -> Outcome {
    let session = Session::open()?;
    for number in [0x40_u32, 0x7f, 0xfe, 0xff] {
        let mut bytes = vec![0; 64];
        set_size(&mut bytes, 64);
        let number = 3 << 30 | 64 << 16 | MAGIC << 8 | number;
        let result = session.ioctl_bytes(number, &mut bytes);
        refused(
            result,
            Operation::UnknownIoctl,
            Reason::UnknownIoctl,
            &[number.into()],
        )?;
    }
    Ok(())
}

fn other_types_are_no_ioctls() -> Outcome {
    let session = Session::open()?;
    let mut bytes = vec![0; 64];
    set_size(&mut bytes, 64);
    for kind in [MAGIC - 1, MAGIC + 1, u32::from(b'T'), 0xff] {
        fails(
            sys::ioctl_bytes(&session, 3 << 30 | 64 << 16 | kind << 8, &mut bytes),
            libc::ENOTTY,
        )?;
    }
    Ok(())
}

fn read_only_session_may_look_and_not_touch() -> Outcome {
    let session = Session::open_read_only()?;
    session.query()?;
    session.last_error()?;
    check_eq!(
        session.info(0)?.freed_held,
        0,
        "freed_held of a new session"
    );
    let result = session.alloc(Kind::Vmalloc, PAGE);
    refused(
        result,
        Operation::Alloc,
        Reason::ReadOnlyOpen,
        &[Operation::Alloc.number().into()],
    )?;
    let request: Alloc = alloc_request(Kind::Vmalloc, 0);
    // Nothing about the request matters more than that.
    refused(
        session.ioctl(ioctl::ALLOC, request),
        Operation::Alloc,
        Reason::ReadOnlyOpen,
        &[],
    )
}
