//! A kernel tree that somebody names, and whether a module can be built against it.

use crate::debian::Root;
use crate::host;
use crate::kernel::config_value;
use crate::sandbox::Sandbox;
use anyhow::{bail, Context, Result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A configured kernel tree, or what a headers package leaves of one.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its folder.
    pub path: PathBuf,
    config: String,
}

/// Something without which a module cannot be built, or not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// The module can be built all the same.
    pub only_loading: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- {}\n  {}", self.what, self.remedy)
    }
}

/// Where the compilers are that a tree wants.
#[derive(Clone, Debug)]
pub enum Compilers {
    /// On the host.
    Host,
    /// In the kit's userland.
    Kit(Root),
}

impl Tree {
    /// The tree of the kernel that runs.
    pub fn of_running_kernel() -> Result<Self> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let path = Path::new("/lib/modules").join(&release).join("build");
        if !path.exists() {
            bail!(
                "the running kernel is {release}, and its build folder {} is not there.\n\
                 On Debian and Ubuntu the package linux-headers-{release} has it; for a kernel of your own, name its tree \
                 with --build; without --build the module is built for the kit's kernel.",
                path.display()
            );
        }
        Self::open(&path)
    }

    /// The tree at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("{} is not there", path.display()))?;
        let config = fs::read_to_string(path.join(".config")).with_context(|| {
            format!(
                "{} is no configured kernel tree (it has no .config): run `make olddefconfig modules_prepare` there, \
                 or name the build folder of a headers package",
                path.display()
            )
        })?;
        Ok(Self { path, config })
    }

    fn value(&self, name: &str) -> Option<&str> {
        config_value(&self.config, name)
    }

    fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("y")
    }

    fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    /// What the kernel that is built from it calls itself, if it is prepared so far.
    pub fn release(&self) -> Option<String> {
        let release = fs::read_to_string(self.path.join("include/config/kernel.release")).ok()?;
        Some(release.trim().to_owned())
    }

    /// Whether it is the tree of the kernel that runs now.
    fn is_running(&self) -> bool {
        let running = rustix::system::uname();
        self.release().as_deref() == Some(&*running.release().to_string_lossy())
    }

    /// Whether the tree was built by LLVM's compiler.
    fn is_llvm(&self) -> bool {
        self.is_set("CONFIG_CC_IS_CLANG")
    }

    /// The variables for `make`.
    pub fn make_variables(&self) -> Vec<String> {
        if self.is_llvm() {
            return vec!["LLVM=1".into()];
        }
        // A compiler with a full name (`x86_64-linux-gnu-gcc`) was chosen by its prefix.
        let compiler = self.value("CONFIG_CC_VERSION_TEXT").unwrap_or_default();
        let program = compiler.split_whitespace().next().unwrap_or_default();
        let prefix = program.split_once("gcc").map_or("", |(prefix, _)| prefix);
        if prefix.is_empty() {
            Vec::new()
        } else {
            vec![format!("CROSS_COMPILE={prefix}")]
        }
    }

    /// The one of these userlands whose compiler built the kernel; where there is none, the first.
    pub fn suited<'a>(&self, kits: &'a [Root]) -> Option<&'a Root> {
        let wanted = self.rustc_wanted();
        let suits = |root: &&Root| root.rustc_version().ok().as_deref() == wanted;
        kits.iter().find(suits).or(kits.first())
    }

    /// Chooses the compilers, and lists what is missing for a module; `rust` says that it has Rust sources.
    pub fn examine(&self, rust: bool, kit: Option<&Root>) -> (Compilers, Vec<Missing>) {
        let mut missing = Vec::new();
        let mut add = |what: String, remedy: String| {
            missing.push(Missing {
                what,
                remedy,
                only_loading: false,
            });
        };
        let tree = self.path.display();
        if !self.has("scripts/mod/modpost") || !self.has("include/generated/autoconf.h") {
            add(
                "The tree is not prepared for modules.".into(),
                format!("Run `make -C {tree} modules_prepare`."),
            );
        }
        if !self.has("Module.symvers") {
            add(
                "Module.symvers, which lists the symbols that the kernel exports, is not there.".into(),
                format!("Build the kernel (`make -C {tree}`), or copy the file from its headers package."),
            );
        }
        let mut compilers = Compilers::Host;
        if rust && !self.is_set("CONFIG_RUST") {
            add(
                "The kernel has no Rust support (CONFIG_RUST is not set).".into(),
                format!(
                    "Run `make -C {tree} rustavailable` to see what it wants, switch Rust support on in the configuration \
                     (General setup), build that kernel and boot it. Debian's kernels from trixie-backports have it."
                ),
            );
        } else if rust {
            if !self.has("rust/libkernel.rmeta") || !self.has("rust/libcore.rmeta") {
                add(
                    "The Rust metadata (rust/libkernel.rmeta and others) is not there; headers packages leave it out.".into(),
                    format!(
                        "With the whole source and the compiler below, run `make -C {tree} prepare`. \
                         For Debian's kernel, leave out --build: the kit does just that."
                    ),
                );
            }
            match self.rustc_wanted() {
                None => {}
                Some(wanted) => {
                    let ours = first_line(Command::new(rustc()).arg("--version"));
                    let kits = kit.and_then(|root| root.rustc_version().ok());
                    if ours.as_deref() != Some(wanted) {
                        if kits.as_deref() == Some(wanted) {
                            if let Some(root) = kit {
                                compilers = Compilers::Kit(root.clone());
                            }
                        } else {
                            add(
                                format!(
                                    "The kernel was built by `{wanted}`; here are {} and, in the kit, {}. \
                                     Rust metadata is read by the very same compiler only.",
                                    ours.map_or("none".into(), |text| format!("`{text}`")),
                                    kits.map_or("none".into(), |text| format!("`{text}`")),
                                ),
                                "Install that compiler (a distribution's own, where the text says so) and name it in the \
                                 environment as RUSTC."
                                    .into(),
                            );
                        }
                    }
                }
            }
        }
        // A C compiler of another version may lack an option that the configuration asks for.
        if let (Compilers::Host, Some(wanted), Some(root)) =
            (&compilers, self.value("CONFIG_CC_VERSION_TEXT"), kit)
        {
            let rust_is_kits = !rust || root.rustc_version().ok().as_deref() == self.rustc_wanted();
            let version = |command: &mut Command| first_line(command.arg("--version"));
            let compiler = self.c_compiler();
            if version(&mut Command::new(&compiler)).as_deref() != Some(wanted)
                && version(&mut root.sandbox().command(&compiler)).as_deref() == Some(wanted)
                && rust_is_kits
            {
                compilers = Compilers::Kit(root.clone());
            }
        }
        if matches!(compilers, Compilers::Host) {
            let compiler = self.c_compiler();
            for program in ["make", &compiler] {
                if host::find(program).is_none() {
                    add(
                        format!("The program {program} is not there."),
                        format!(
                            "Install it; the kernel was built by `{}`.",
                            self.value("CONFIG_CC_VERSION_TEXT").unwrap_or("gcc")
                        ),
                    );
                }
            }
        }
        if let Some(signature) = self.signature() {
            missing.push(signature);
        }
        (compilers, missing)
    }

    fn rustc_wanted(&self) -> Option<&str> {
        self.value("CONFIG_RUSTC_VERSION_TEXT")
    }

    fn c_compiler(&self) -> String {
        if self.is_llvm() {
            return "clang".into();
        }
        match self
            .make_variables()
            .first()
            .and_then(|variable| variable.split_once('='))
        {
            Some((_, prefix)) => format!("{prefix}gcc"),
            None => "gcc".into(),
        }
    }

    /// What a kernel that insists on signatures needs.
    fn signature(&self) -> Option<Missing> {
        let forced = self.is_set("CONFIG_MODULE_SIG_FORCE");
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        let locked = self.is_running()
            && (lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]"));
        if !forced && !locked {
            return None;
        }
        let why = if forced {
            "The kernel loads signed modules only (CONFIG_MODULE_SIG_FORCE)"
        } else {
            "The running kernel is locked down (secure boot) and loads signed modules only"
        };
        let key = "certs/signing_key.pem";
        if self.has(key) {
            return None;
        }
        let tree = self.path.display();
        Some(Missing {
            what: format!("{why}, and its key ({key}) is not in the tree."),
            remedy: format!(
                "Make a key of your own, enrol it (`mokutil --import KEY.der`, then restart), and sign the module: \
                 `{tree}/scripts/sign-file {} KEY.pem KEY.der mapbuf.ko`.",
                self.value("CONFIG_MODULE_SIG_HASH").unwrap_or("sha256")
            ),
            only_loading: true,
        })
    }

    /// The kit's userland with the tree in it, at its own path.
    pub fn sandbox(&self, root: &Root) -> Sandbox {
        root.sandbox().read(&self.path, &self.path)
    }
}

/// The host's Rust compiler.
fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(config: &str, files: &[&str]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".config"), config).unwrap();
        for file in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let tree = Tree::open(folder.path()).unwrap();
        (folder, tree)
    }

    const PREPARED: [&str; 3] = [
        "scripts/mod/modpost",
        "include/generated/autoconf.h",
        "Module.symvers",
    ];

    fn what(missing: &[Missing]) -> String {
        missing
            .iter()
            .map(|missing| missing.what.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn each_missing_thing_is_named() {
        let (_folder, bare) = tree("", &[]);
        let said = what(&bare.examine(true, None).1);
        assert!(said.contains("not prepared"), "{said}");
        assert!(said.contains("Module.symvers"), "{said}");
        assert!(said.contains("CONFIG_RUST is not set"), "{said}");

        let config = "CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT=\"rustc 1.2.3 (never)\"\nCONFIG_MODULE_SIG_FORCE=y\n";
        let (_folder, old) = tree(config, &PREPARED);
        let (_, missing) = old.examine(true, None);
        let said = what(&missing);
        assert!(said.contains("rust/libkernel.rmeta"), "{said}");
        assert!(said.contains("`rustc 1.2.3 (never)`"), "{said}");
        assert!(
            missing
                .iter()
                .any(|missing| missing.only_loading && missing.what.contains("signing_key")),
            "{said}"
        );
    }

    #[test]
    fn a_c_module_needs_no_rust() {
        let (_folder, tree) = tree("# CONFIG_RUST is not set\n", &PREPARED);
        let said = what(&tree.examine(false, None).1);
        assert!(!said.contains("Rust"), "{said}");
    }

    #[test]
    fn the_compiler_is_that_of_the_configuration() {
        let (_folder, gcc) = tree(
            "CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0\"\n",
            &[],
        );
        assert_eq!(gcc.make_variables(), ["CROSS_COMPILE=x86_64-linux-gnu-"]);
        let (_folder, plain) = tree(
            "CONFIG_CC_VERSION_TEXT=\"gcc (Debian 14.2.0-19) 14.2.0\"\n",
            &[],
        );
        assert!(plain.make_variables().is_empty());
        let (_folder, clang) = tree("CONFIG_CC_IS_CLANG=y\n", &[]);
        assert_eq!(clang.make_variables(), ["LLVM=1"]);
    }

    #[test]
    fn a_folder_that_is_no_tree_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let said = format!("{:#}", Tree::open(folder.path()).unwrap_err());
        assert!(
            said.contains("no configured kernel tree") && said.contains("modules_prepare"),
            "{said}"
        );
    }
}
