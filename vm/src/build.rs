//! A kernel of our own, built from the stock kernel's sources: to find mistakes, not to be quick.
//!
//! It is built by LLVM's compilers (KASAN with Rust in the kernel needs clang), from nothing but what a fragment of a
//! configuration names. Its entry in the cache is named after all that it is made of, so a changed fragment or another
//! compiler is another entry.

use crate::cache::Cache;
use crate::debian::{Root, Toolchain, Userland};
use crate::identity::Identity;
use crate::kernel::{config_value, Kernel, INSIDE};
use crate::ui::{Step, Ui};
use crate::variant::{options, Variant};
use anyhow::{bail, Context, Result};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Changes when what is done to build a kernel changes.
const RECIPE: u32 = 1;

/// About how many lines the build prints.
const LINES: u64 = 2000;

/// The kernel, from the cache or built now.
pub fn get(cache: &Cache, ui: &Ui, stock: &Kernel, variant: Variant) -> Result<Kernel> {
    let root = userland(stock)?.get(cache, ui)?;
    let fragment = variant
        .fragment(stock.identity.series())
        .context("the stock kernel is not built here")?;
    let name = name(stock, &root, variant, &fragment)?;
    let folder = cache.entry("kernels", &name, |part| {
        cache.require(6000)?;
        let identity = Identity {
            release: format!("{}+mapbuf-{variant}", stock.identity.upstream()),
            version: stock.identity.version.clone(),
            variant,
            suite: stock.identity.suite,
        };
        let build = Build {
            ui,
            root: &root,
            stock,
            identity: &identity,
            part,
            log: &cache.log(&name),
        };
        build.run(&fragment)?;
        fs::write(
            part.join("identity.json"),
            serde_json::to_vec_pretty(&identity)?,
        )?;
        Ok(())
    })?;
    let identity = fs::read(folder.join("identity.json"))?;
    Ok(Kernel {
        folder,
        identity: serde_json::from_slice(&identity)?,
        root,
    })
}

/// The name of its entry in the cache, if the userland that it takes is there.
pub fn entry_name(cache: &Cache, stock: &Kernel, variant: Variant) -> Option<String> {
    let root = userland(stock).ok()?.if_made(cache)?;
    name(
        stock,
        &root,
        variant,
        &variant.fragment(stock.identity.series())?,
    )
    .ok()
}

/// The name of that userland.
pub fn root_name(stock: &Kernel) -> Option<String> {
    userland(stock).ok().map(Userland::name)
}

/// The userland that has LLVM's compilers beside the stock kernel's own.
fn userland(stock: &Kernel) -> Result<Userland> {
    let name = stock.root.name();
    let userland = Userland::of(&name).with_context(|| format!("{name} is no userland"))?;
    Ok(userland.with(Toolchain::Llvm))
}

fn name(stock: &Kernel, root: &Root, variant: Variant, fragment: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    let compilers = (root.rustc_version()?, root.clang_version()?);
    (RECIPE, fragment, compilers, &stock.identity.version).hash(&mut hasher);
    Ok(format!(
        "{}+mapbuf-{variant}.{:016x}",
        stock.identity.upstream(),
        hasher.finish()
    ))
}

struct Build<'a> {
    ui: &'a Ui,
    root: &'a Root,
    stock: &'a Kernel,
    identity: &'a Identity,
    part: &'a Path,
    log: &'a Path,
}

impl Build<'_> {
    fn run(&self, fragment: &str) -> Result<()> {
        let variant = self.identity.variant;
        let step = self
            .ui
            .step(&format!("Configuring the {variant} kernel"), 0);
        // A copy: a tree that was prepared for modules is no clean tree for a build in another folder.
        self.shell(&step, "cp -a --reflink=auto /mnt/. /kit/build")?;
        self.make(&step, &["-s", "mrproper"])?;
        fs::write(self.tree().join(".fragment"), fragment)?;
        self.make(
            &step,
            &["KCONFIG_ALLCONFIG=/kit/build/.fragment", "allnoconfig"],
        )?;
        let config = fs::read_to_string(self.tree().join(".config"))?;
        let lost = lost(fragment, &config);
        if !lost.is_empty() {
            bail!(
                "options of the {variant} kernel were not accepted (their dependencies are off, or they no longer \
                exist):\n{}",
                lost.join("\n")
            );
        }
        step.done();

        let step = self
            .ui
            .step(&format!("Building the {variant} kernel"), LINES);
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        self.make(&step, &[&format!("-j{jobs}"), "bzImage", "modules"])?;
        step.done();
        let made = fs::read_to_string(self.tree().join("include/config/kernel.release"))?;
        if made.trim() != self.identity.release {
            bail!(
                "the kernel calls itself {} instead of {}",
                made.trim(),
                self.identity.release
            );
        }

        let step = self.ui.step(&format!("Installing the {variant} kernel"), 0);
        self.make(
            &step,
            &["-s", "INSTALL_MOD_PATH=/kit/image/usr", "modules_install"],
        )?;
        let modules = format!("/kit/image/usr/lib/modules/{}", self.identity.release);
        // What was linked into the image is not needed any more.
        let script = format!(
            "cp build/arch/x86/boot/bzImage {modules}/vmlinuz; ln -s usr/lib image/lib; rm -f {modules}/build
             find build -path build/scripts -prune -o -path build/rust -prune -o \\
                 '(' -name '*.o' -o -name '*.a' ')' -type f -exec rm -f '{{}}' +
             rm -f build/vmlinux.unstripped build/arch/x86/boot/compressed/vmlinux*"
        );
        self.shell(&step, &script)?;
        step.done();
        Ok(())
    }

    fn tree(&self) -> PathBuf {
        self.part.join("build")
    }

    fn make(&self, step: &Step, arguments: &[&str]) -> Result<()> {
        let variables = self.identity.make_variables();
        let words: Vec<_> = variables
            .iter()
            .map(String::as_str)
            .chain(arguments.iter().copied())
            .collect();
        self.command(step, "exec make -C build \"$@\" < /dev/null", &words)
    }

    fn shell(&self, step: &Step, script: &str) -> Result<()> {
        self.command(step, script, &[])
    }

    fn command(&self, step: &Step, script: &str, arguments: &[&str]) -> Result<()> {
        let sandbox = self
            .root
            .sandbox()
            .write(self.part, Path::new(INSIDE))
            .read(&self.stock.tree(), Path::new("/mnt"));
        let script = format!("cd {INSIDE}; {script}");
        let mut command = sandbox.command("sh");
        command.args(["-e", "-c", &script, "sh"]).args(arguments);
        step.run(&mut command, self.log)
    }
}

/// What a fragment asks for and a configuration has not.
fn lost(fragment: &str, config: &str) -> Vec<String> {
    options(fragment)
        .filter_map(|(name, wanted)| {
            let wanted = wanted.trim_matches('"');
            let got = config_value(config, name).unwrap_or("n");
            (got != wanted).then(|| format!("- {name} is {got} instead of {wanted}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_take_is_named() {
        let config =
            "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=17\nCONFIG_S=\"x\"\nCONFIG_ON=y\n";
        assert!(lost(
            "CONFIG_A=y\nCONFIG_B=n\nCONFIG_N=17\nCONFIG_S=\"x\"\n",
            config
        )
        .is_empty());
        let lost = lost(
            "# why\nCONFIG_B=y\nCONFIG_GONE=y\nCONFIG_N=18\nCONFIG_ON=n\n",
            config,
        );
        assert_eq!(
            lost,
            [
                "- CONFIG_B is n instead of y",
                "- CONFIG_GONE is n instead of y",
                "- CONFIG_N is 17 instead of 18",
                "- CONFIG_ON is y instead of n",
            ]
        );
    }
}
