//! The driver's module: where its file is, whether it is loaded, loading and unloading.

use crate::failure::Failure;
use rustix::{fs::OFlags, io::Errno};
use std::{
    ffi::CString,
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const NAME: &str = "mapbuf";
/// Folders of `/lib/modules/RELEASE` that hold modules from outside of the kernel, in depmod's order.
const FOLDERS: &[&str] = &[
    "updates",
    "updates/dkms",
    "extra",
    "misc",
    "kernel/drivers/misc",
    "",
];
const SUFFIXES: &[&str] = &["ko", "ko.zst", "ko.xz", "ko.gz"];
/// `MODULE_INIT_COMPRESSED_FILE` of `include/uapi/linux/module.h`.
const COMPRESSED: i32 = 4;

/// Whether the module is loaded.
pub fn is_loaded() -> bool {
    sysfs("").is_dir()
}

/// Its parameters as they are now, for loading it again. What cannot be read is left out.
pub fn parameters() -> Vec<String> {
    let Ok(folder) = fs::read_dir(sysfs("parameters")) else {
        return Vec::new();
    };
    let mut parameters: Vec<String> = folder
        .flatten()
        .filter_map(|item| {
            let value = fs::read_to_string(item.path()).ok()?;
            let value = value.trim();
            // A string that was not given: some parameters do not take the empty one.
            (!value.is_empty()).then_some(format!("{}={value}", item.file_name().to_str()?))
        })
        .collect();
    parameters.sort();
    parameters
}

/// One of its parameters as it is now.
pub fn parameter(name: &str) -> Option<String> {
    let value = fs::read_to_string(sysfs("parameters").join(name)).ok()?;
    Some(value.trim().to_owned())
}

/// How many references to it there are: one for each buffer that lives, a name's too, and two for each open node.
pub fn references() -> Option<usize> {
    let text = fs::read_to_string(sysfs("refcnt")).ok()?;
    text.trim().parse().ok()
}

/// The module's file: the one named, or the one installed for the running kernel.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let modules = Path::new("/lib/modules");
    let folders = FOLDERS
        .iter()
        .map(|folder| modules.join(&release).join(folder))
        .chain([modules.to_owned()]);
    folders
        .flat_map(|folder| {
            SUFFIXES
                .iter()
                .map(move |suffix| folder.join(format!("{NAME}.{suffix}")))
        })
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::NoModule(format!(
                "there is no {NAME}.ko for the kernel {release} in /lib/modules; \
                 build it (cargo xtask module) and name it: mapbuf load --module FILE"
            ))
        })
}

/// Loads the module.
pub fn load(path: &Path, parameters: &[String]) -> Result<(), Failure> {
    let file = File::open(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })?;
    let flags = match path.extension() {
        Some(extension) if extension != "ko" => COMPRESSED,
        _ => 0,
    };
    let text = CString::new(parameters.join(" "))
        .map_err(|_| Failure::Usage("a parameter contains a zero byte".to_owned()))?;
    match rustix::system::finit_module(&file, &text, flags) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Failure::Module {
            what: format!("loading {}", path.display()),
            errno,
            remedy: load_remedy(errno),
        }),
    }
}

/// Unloads the module, unless it is in use: `Ok(false)`.
pub fn unload() -> Result<bool, Failure> {
    let name = CString::new(NAME).unwrap_or_default();
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    // What was closed a moment ago may be let go of at the end of another system call, not of the close.
    for _ in 0..20 {
        match rustix::system::delete_module(&name, flags) {
            Ok(()) => return Ok(true),
            Err(Errno::AGAIN | Errno::BUSY) => thread::sleep(Duration::from_millis(20)),
            Err(errno) => {
                return Err(Failure::Module {
                    what: format!("unloading {NAME}"),
                    errno,
                    remedy: match errno {
                        Errno::PERM => "run as root",
                        Errno::NOENT => "it is not loaded",
                        _ => "see the kernel log: dmesg",
                    },
                })
            }
        }
    }
    Ok(false)
}

fn sysfs(below: &str) -> PathBuf {
    Path::new("/sys/module").join(NAME).join(below)
}

fn load_remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "run as root; if you are, kernel lockdown or modules_disabled forbids it",
        Errno::NOEXEC => "the module was not built for this kernel: build it for this one (cargo xtask module)",
        Errno::KEYREJECTED | Errno::NOKEY => {
            "the kernel accepts only signed modules: sign it with an enrolled key, or turn secure boot off"
        }
        Errno::INVAL => "a parameter is wrong, or it was built for another kernel: see dmesg",
        _ => "see the kernel log: dmesg",
    }
}
