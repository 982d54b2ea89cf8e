//! The module's own tests, which the kernel has run when it loaded the module (`driver/src/kunit.rs`).

use crate::check::Outcome;
use crate::{check, check_eq};
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

tests! { "kunit":
    KUNIT, 20: [ every_suite_inside_the_kernel_passes ];
}

/// The suites, and how many tests each has.
const SUITES: &[(&str, usize)] = &[
    ("mapbuf_pages", 3),
    ("mapbuf_recached", 2),
    ("mapbuf_refusals", 1),
];

/// What the kernel has logged of tests, without what printk puts before it.
fn results() -> Outcome<Vec<String>> {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    while let Ok(count) = file.read(&mut record) {
        let text = String::from_utf8_lossy(&record[..count]);
        let line = text.split_once(';').map_or("", |(_, line)| line);
        lines.push(line.lines().next().unwrap_or_default().trim().to_owned());
    }
    Ok(lines)
}

fn every_suite_inside_the_kernel_passes() -> Outcome {
    let lines = results()?;
    for &(suite, tests) in SUITES {
        let total = format!("# {suite}: pass:{tests} fail:0 skip:0 total:{tests}");
        // KUnit leaves this line out for a suite of one test.
        let passed = lines.contains(&total) || tests == 1;
        check!(passed, "the log has no line \"{total}\"");
        let well = |line: &&String| line.starts_with("ok ") && line.ends_with(suite);
        check_eq!(
            lines.iter().filter(well).count(),
            1,
            "lines that say that {suite} is well"
        );
    }
    let failed: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("not ok "))
        .collect();
    check!(failed.is_empty(), "{failed:?}");
    Ok(())
}
