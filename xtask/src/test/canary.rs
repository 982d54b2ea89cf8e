//! A module that makes mistakes on purpose, and whether all of them are seen: by the kernel, and by what reads its log.

use super::plan::Boot;
use super::{report_failure, Tally};
use crate::kit::Kit;
use anyhow::Result;
use mapbuf_init::Job;
use mapbuf_vm::{splat, Variant, Verdict};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Its name among the profiles.
pub const PROFILE: &str = "canary";

const MEMORY_MIB: u32 = 1024;

/// What a kernel must say of the module's mistakes: lines with these texts, each taken for a failure.
fn expected(variant: Variant) -> Vec<&'static str> {
    match variant {
        Variant::Stock => Vec::new(),
        Variant::Debug => vec![
            "BUG: KASAN: slab-use-after-free",
            "BUG: KASAN: use-after-free",
            "BUG: KASAN: vmalloc-out-of-bounds",
            "UBSAN: shift-out-of-bounds",
            "BUG: sleeping function called from invalid context",
            "list_del corruption",
            "device driver tries to free DMA memory it has not allocated",
            "ODEBUG: free active",
            "possible circular locking dependency detected",
        ],
        Variant::Kcsan => vec!["BUG: KCSAN: data-race in contest"],
    }
}

/// What is to be booted.
pub fn plan<'a>(kit: &'a Kit, logs: &'a Path) -> Boot<'a> {
    let variant = kit.kernel.identity.variant;
    let others = if variant.finds_leaks() { 2 } else { 1 };
    Boot {
        name: PROFILE.to_owned(),
        purpose: "a module's mistakes on purpose, of which the kernel must notice each",
        tests: expected(variant).len() as u64 + others,
        memory: MEMORY_MIB,
        run: Box::new(|_| run(kit, logs)),
    }
}

/// Boots a guest that loads the module.
fn run(kit: &Kit, logs: &Path) -> Result<Tally> {
    let variant = kit.kernel.identity.variant;
    let folder = crate::workspace()?.join("tests/canary");
    let modules = kit.driver(Some(&folder))?;
    let mut guest = kit.guest(false)?;
    let job = Job {
        // The module is loaded when all file systems are there.
        argv: ["insmod", "/lib/modules/canary.ko"]
            .map(String::from)
            .to_vec(),
        find_leaks: variant.finds_leaks(),
        unload: vec!["canary".into()],
        ..Job::default()
    };
    for module in &modules {
        guest.module(module)?;
    }
    let mut machine = kit.machine();
    machine.memory = MEMORY_MIB;
    let begun = Instant::now();
    let report = kit.boot(&machine, guest, &job, &mut |_, _| {})?;
    let log = logs.join(format!("{variant}-{PROFILE}.log"));
    let leaks = report.leaks.clone().unwrap_or_default();
    let text = [
        report.log.as_slice(),
        &report.complaints,
        std::slice::from_ref(&leaks.1),
    ]
    .concat();
    fs::write(&log, text.join("\n"))?;
    let mut tally = Tally::default();
    let mut expect = |what: &str, seen: bool| {
        if !seen {
            report_failure(
                &format!("{variant} {PROFILE}: not noticed: {what}"),
                "",
                &log,
            );
        }
        tally.add(Tally::one(seen));
    };
    for text in expected(variant) {
        let seen = |line: &String| line.contains(text) && splat::is_splat(line);
        expect(text, report.log.iter().any(seen));
    }
    expect(
        "the kernel reported a failure",
        report.verdict == Verdict::Splat,
    );
    if job.find_leaks {
        // Of the size that the module's fall into.
        let seen = leaks.0 == 8 && leaks.1.contains("(size 2048)");
        expect("kmemleak: 8 unreferenced objects", seen);
    }
    println!(
        "{variant} {PROFILE}: {} mistakes noticed, {} not, in {:.0} s",
        tally.passed,
        tally.failed,
        begun.elapsed().as_secs_f32()
    );
    Ok(tally)
}
