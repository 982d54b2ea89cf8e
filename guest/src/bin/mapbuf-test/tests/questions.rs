//! The two questions that the project answers, each requirement as its asker would try it.

use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::session::{id_offset, named_path, Session};
use crate::sys::{Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs::File;
use std::path::Path;
use std::process::Command;

tests! { "questions":
    STOCK, 20: [
        a3_a4_coherent_buffer_maps_by_its_id,
        a6_coherent_memory_of_every_small_size,
        a7_ordinary_contiguous_memory_maps,
        a10_buffer_is_freed_at_any_time,
        a11_small_c_program,
        c_program_of_32_bits,
        b2_sixteen_pages_of_vmalloc,
        b3_b4_private_read_only_outlives_close,
        b4_c_program_that_knows_only_the_name,
        b5_failing_case_fails_in_mmap,
    ];
}

fn a3_a4_coherent_buffer_maps_by_its_id() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Coherent, 10_000)?;
    check_eq!(buffer.bytes, 12288, "bytes");
    let map = session.map(12288, RW, SHARED, id_offset(buffer.id))?;
    map.set_bytes(9_990, b"0123456789");
    let mut bytes = [0; 10];
    session.pread(&mut bytes, buffer.mmap_offset + 9_990)?;
    check_eq!(&bytes, b"0123456789", "the kernel's view");
    Ok(())
}

fn a6_coherent_memory_of_every_small_size() -> Outcome {
    for pages in 1..40 {
        let session = Session::open()?;
        let (buffer, map) = session.mapped(Kind::Coherent, pages * PAGE)?;
        map.set_u64((pages - 1) * PAGE, 1);
        let last = session.map(
            PAGE,
            READ,
            SHARED,
            buffer.mmap_offset + ((pages - 1) * PAGE) as u64,
        )?;
        check_eq!(last.u64(0), 1, "last of {pages} pages");
    }
    Ok(())
}

fn a7_ordinary_contiguous_memory_maps() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(Kind::Contiguous, 100 * PAGE)?;
    check_eq!(session.segments(buffer.id)?.len(), 1, "runs");
    map.set_u64(99 * PAGE, 1);
    let mut bytes = [0; 8];
    session.pread(&mut bytes, buffer.mmap_offset + 99 * PAGE as u64)?;
    check_eq!(u64::from_ne_bytes(bytes), 1, "the kernel's view");
    Ok(())
}

fn a10_buffer_is_freed_at_any_time() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(Kind::Coherent, PAGE)?;
    map.set_u64(0, 1);
    session.free(buffer.id)?;
    check_eq!(map.u64(0), 1, "word after the free");
    Ok(())
}

/// Where the runner puts a C example.
pub fn example(name: &str) -> Outcome<Command> {
    let folder = std::env::var("MAPBUF_EXAMPLES").unwrap_or_else(|_| "/examples".into());
    let path = Path::new(&folder).join(name);
    if !path.exists() {
        return Err(Failure::Skipped(format!("{} is not there", path.display())));
    }
    Ok(Command::new(path))
}

pub fn run(mut command: Command) -> Outcome<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    check!(
        output.status.success(),
        "{command:?} ended with {}: {said} {complained}",
        output.status
    );
    Ok(said)
}

fn a11_small_c_program() -> Outcome {
    run(example("question-a")?)?;
    Ok(())
}

fn c_program_of_32_bits() -> Outcome {
    run(example("mmap2_i386")?)?;
    Ok(())
}

/// A vmalloc'd buffer of 16 pages, each beginning with dd cc bb aa, under a name.
fn sixteen_pages(session: &Session, name: &str) -> Outcome {
    let buffer = session.alloc(Kind::Vmalloc, 16 * PAGE)?;
    for page in 0..16 {
        session.pwrite(
            &[0xdd, 0xcc, 0xbb, 0xaa],
            buffer.mmap_offset + page * PAGE as u64,
        )?;
    }
    session.name(buffer.id, name, 0o644)?;
    Ok(())
}

fn b2_sixteen_pages_of_vmalloc() -> Outcome {
    let session = Session::open()?;
    sixteen_pages(&session, "b2")?;
    let result = (|| {
        let node = Session::open_named("b2", false)?;
        let map = node.map(16 * PAGE, READ, SHARED, 0)?;
        for page in 0..16 {
            check_eq!(map.u32(page * PAGE), 0xaabbccdd, "page {page}");
        }
        Ok(())
    })();
    session.unname("b2")?;
    result
}

// The program of the question, to the letter: read-only, private, closed before the first look.
fn b3_b4_private_read_only_outlives_close() -> Outcome {
    let session = Session::open()?;
    sixteen_pages(&session, "b4")?;
    let result = (|| {
        let file = File::open(named_path("b4"))?;
        let map = Map::new(&file, 16 * PAGE, READ, PRIVATE, 0)?;
        drop(file);
        for page in 0..16 {
            check_eq!(map.u32(page * PAGE), 0xaabbccdd, "page {page}");
        }
        Ok(())
    })();
    session.unname("b4")?;
    result
}

fn b4_c_program_that_knows_only_the_name() -> Outcome {
    let mut program = example("question-b")?;
    let session = Session::open()?;
    sixteen_pages(&session, "b4-c")?;
    program.arg(named_path("b4-c"));
    let result = run(program);
    session.unname("b4-c")?;
    let said = result?;
    check!(said.contains("aabbccdd"), "it says {said:?}");
    Ok(())
}

// Private and writable over scattered memory without pages cannot work; what can, works: here, page-backed memory is
// really copied, and coherent memory is refused with a reason for whoever may not see its address.
fn b5_failing_case_fails_in_mmap() -> Outcome {
    let session = Session::open()?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        let buffer = session.alloc(kind, 16 * PAGE)?;
        let map = session.map(16 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        for page in 0..16 {
            map.set_u32(page * PAGE, 1);
        }
    }
    let buffer = session.alloc(Kind::Coherent, 16 * PAGE)?;
    elsewhere(|| {
        crate::sys::become_user(1000, 1000)?;
        let result = session.map(16 * PAGE, RW, PRIVATE, buffer.mmap_offset);
        refused(result, Operation::Mmap, Reason::CowShowsAddress, &[])
    })?;
    Ok(())
}
