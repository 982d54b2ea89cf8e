//! Programs that check themselves: the library's tour, and the command's own tests.

use super::questions::{example, run};
use crate::check::{Failure, Outcome};
use crate::{check, check_eq};
use mapbuf_guest::price::Price;

tests! { "programs":
    STOCK, 60: [ library_holds_what_its_tour_shows, price_tells_faults_and_entries ];
    // They unload the module.
    RELOAD, 120: [ command_does_what_scripts_rely_on ];
}

fn library_holds_what_its_tour_shows() -> Outcome {
    let said = run(example("tour")?)?;
    let steps = said.lines().filter(|line| line.starts_with("ok ")).count();
    check!(steps >= 5, "{steps} steps: {said}");
    Ok(())
}

fn command_does_what_scripts_rely_on() -> Outcome {
    let mut program = example("command-tests")?;
    program.env("MAPBUF_COMMAND", "mapbuf");
    let result = run(program);
    if !crate::proc::module_loaded("mapbuf") {
        super::module::load()?;
    }
    let said = result?;
    check!(!said.contains("running 0 tests"), "no tests: {said}");
    Ok(())
}

// One round of the benchmark; of its numbers those that are no instructions, which the kernel's source tells:
// `finish_fault` maps a folio whole, by one entry where it is of 2 MiB, and `vmf_insert_pfn_pmd` makes such an entry of
// frames; `remap_pfn_range` maps all at once, by small entries (of the dma-heap: `system_heap_mmap`); udmabuf's first fault puts in all frames (`udmabuf_vm_fault`);
// anonymous memory without huge pages faults on each page.
fn price_tells_faults_and_entries() -> Outcome {
    const HUGE: u64 = 2 << 20;
    let bytes = HUGE.to_string();
    for (subject, faults, huge, by_frame) in [
        ("pages", 1, HUGE, false),
        ("contiguous", 1, HUGE, false),
        ("coherent", 1, HUGE, true),
        ("dma-heap", 0, 0, true),
        ("udmabuf", 1, 0, true),
        ("anonymous", 512, 0, false),
        ("anonymous-huge", 1, HUGE, false),
    ] {
        let mut program = example("price")?;
        let said = run({
            program.args(["--bytes", &bytes, "--repeats", "1", subject]);
            program
        })?;
        let price: Price = serde_json::from_str(&said)
            .map_err(|error| Failure::new(format!("{subject}: {error}: {said}")))?;
        let seen = (price.faults, price.huge_bytes, price.by_frame);
        check_eq!(seen, (faults, huge, by_frame), "{subject}: {said}");
        check!(price.bytes == HUGE && price.subject == subject, "{said}");
    }
    Ok(())
}
