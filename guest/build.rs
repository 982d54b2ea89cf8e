//! Compiles the i386 program that one test runs: no library, so any C compiler for x86 can make it.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=i386/mmap2.c");
    println!("cargo::rerun-if-env-changed=CC");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("mmap2-i386");
    let x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let made = x86
        && Command::new(compiler)
            .args([
                "-m32",
                "-Os",
                "-static",
                "-nostdlib",
                "-ffreestanding",
                "-fno-pic",
                "-no-pie",
            ])
            .args([
                "-fno-stack-protector",
                "-fcf-protection=none",
                "-mno-sse",
                "-Wl,--build-id=none",
            ])
            .args(["-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&out)
            .arg("i386/mmap2.c")
            .status()
            .is_ok_and(|status| status.success());
    if !made {
        // The test says that it was skipped.
        fs::write(&out, []).expect("OUT_DIR can be written");
        println!("cargo::warning=no i386 program: its test will be skipped");
    }
}
