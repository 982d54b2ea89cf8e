//! What QEMU can run on here. `/dev/kvm` may exist and be unusable (on some nested hosts the guest hangs in its
//! decompressor), so it is tried with a deadline, and the answer is kept.

use crate::accel::Accel;
use crate::cache::Cache;
use crate::host;
use crate::initramfs::Archive;
use crate::kernel::Kernel;
use crate::qemu::{self, Machine, PROGRAM};
use crate::ui::Ui;
use crate::verdict::Verdict;
use anyhow::{bail, Result};
use mapbuf_init::Job;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A boot by KVM takes a second or two of the guest's own time.
const DEADLINE: Duration = Duration::from_secs(20);

/// What was found out, by host and kernel.
type Answers = BTreeMap<String, Accel>;

impl Accel {
    /// The fastest that works; `MAPBUF_ACCEL` (`kvm` or `tcg`) decides without a probe.
    pub fn find(cache: &Cache, ui: &Ui, kernel: &Kernel, init: &[u8]) -> Result<Self> {
        match std::env::var("MAPBUF_ACCEL").as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Tcg),
            Ok("") | Err(_) => {}
            Ok(other) => bail!("MAPBUF_ACCEL is `{other}`; it must be `kvm` or `tcg`"),
        }
        let device = Path::new("/dev/kvm");
        if rustix::fs::access(
            device,
            rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
        )
        .is_err()
        {
            return Ok(Self::Tcg);
        }
        let host = describe_host(kernel);
        let file = cache.root().join("accel.json");
        let known = || -> Answers {
            let text = fs::read(&file).unwrap_or_default();
            // What another version left is no answer.
            serde_json::from_slice(&text).unwrap_or_default()
        };
        if let Some(accel) = known().get(&host) {
            return Ok(*accel);
        }
        let _lock = cache.lock("accel")?;
        let mut answers = known();
        if let Some(accel) = answers.get(&host) {
            return Ok(*accel);
        }
        let step = ui.step("Trying whether KVM works here", 0);
        let mut machine = Machine::new(Self::Kvm);
        machine.memory = 512;
        machine.limits.timeout = Some(DEADLINE);
        let mut archive = Archive::new();
        archive.file("/init", 0o755, init)?;
        // PID 1 takes a program that is not there as an answer, too: it has run.
        let job = Job {
            argv: vec!["/none".into()],
            ..Job::default()
        };
        let report = qemu::run(&machine, kernel, archive, &job, None, &mut |_, _| {})?;
        let accel = match report.verdict {
            Verdict::NotRun(_) => Self::Kvm,
            _ => Self::Tcg,
        };
        step.done();
        if accel == Self::Tcg {
            let why = report.verdict.to_string();
            let why = why.lines().next().unwrap_or_default();
            ui.note(format!(
                "KVM is available but does not boot a guest ({why}); using emulation from now on."
            ));
        }
        answers.insert(host, accel);
        let part = cache.root().join(format!(".accel.{}", std::process::id()));
        fs::write(&part, serde_json::to_vec_pretty(&answers)?)?;
        fs::rename(part, file)?;
        Ok(accel)
    }
}

/// What the answer depends on.
fn describe_host(kernel: &Kernel) -> String {
    let uname = rustix::system::uname();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default()
        .trim_start_matches(['\t', ' ', ':'])
        .to_owned();
    let qemu = Command::new(PROGRAM).arg("--version").output();
    let qemu = qemu.map(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    format!(
        "{} {} / {model} / {} / {}{}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        qemu.unwrap_or_default(),
        kernel.identity.release,
        if host::is_root() { " / root" } else { "" },
    )
}
