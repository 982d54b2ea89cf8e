//! What is shown: drivers that are wrong and what must be said of them, mistakes of programs, and uses that are right.

/// What a shell says of a program that SIGBUS ended.
const SIGBUS: i32 = 128 + 7;
const SIGSEGV: i32 = 128 + 11;

/// A use of a driver, or of a file, that goes wrong.
pub struct Exhibit {
    /// The module in `examples/broken`, and with other dashes its node; or the name of a program's mistake.
    pub name: &'static str,
    /// What the visitor is to do with it; where it does not begin with a path, it is done with the module's node.
    pub visit: &'static str,
    /// What must be said; with `|` between them, what may be said on kernels that show less.
    pub cause: &'static str,
    /// The module's function that must be named; empty where no module is to blame.
    pub function: &'static str,
    /// The visitor's exit status.
    pub status: i32,
}

impl Exhibit {
    /// The module that it needs; several exhibits may use one.
    pub fn module(&self) -> &'static str {
        self.name.split('@').next().unwrap_or(self.name)
    }

    /// The visitor's words.
    pub fn visit(&self) -> String {
        if self.visit.starts_with('/') {
            return self.visit.to_owned();
        }
        let node = self.module().replace('_', "-");
        format!("/dev/broken-{node} {}", self.visit)
    }
}

const fn exhibit(
    name: &'static str,
    visit: &'static str,
    cause: &'static str,
    function: &'static str,
    status: i32,
) -> Exhibit {
    Exhibit {
        name,
        visit,
        cause,
        function,
        status,
    }
}

/// Drivers that are wrong. What stands behind `@` tells exhibits of one module apart.
pub const WRONG: &[Exhibit] = &[
    exhibit(
        "copy_on_write",
        "16 0 private",
        "copy-on-write",
        "my_mmap",
        SIGBUS,
    ),
    exhibit("ignored_error", "4", "ignored-error", "my_mmap", SIGBUS),
    exhibit(
        "call_failed",
        "4",
        "not-for-users|call-failed",
        "my_mmap",
        1,
    ),
    exhibit("beyond_mapped", "8", "beyond-mapped", "my_mmap", SIGBUS),
    exhibit("fault_refused", "8", "fault-refused", "my_fault", SIGBUS),
    exhibit("offset_is_id", "4 7", "offset-is-id", "my_mmap", 1),
    exhibit("offset_is_id_pages", "4 7", "offset-is-id", "my_mmap", 1),
    exhibit(
        "pfn_flag_missing",
        "1",
        "pfn-flag-missing",
        "my_fault",
        SIGBUS,
    ),
    exhibit("insert_failed", "4 4", "insert-failed", "my_fault", SIGBUS),
    exhibit("nothing_behind", "4", "nothing-behind", "my_mmap", 0),
    exhibit("uncached_ram", "1", "uncached-ram", "my_mmap", 0),
    exhibit("no_pages", "1 0 shared vmread", "no-pages", "my_mmap", 1),
    exhibit(
        "no_pages@direct",
        "1 0 shared direct",
        "no-pages",
        "my_mmap",
        1,
    ),
    exhibit(
        "no_pages@uring",
        "1 0 shared uring",
        "no-pages",
        "my_mmap",
        1,
    ),
    exhibit("outlived", "1 0 shared free", "outlived", "my_mmap", 0),
];

/// Mistakes that programs make with drivers that are right.
pub const PROGRAMS: &[Exhibit] = &[
    exhibit("file_end", "/tmp/one-page 4", "file-end", "", SIGBUS),
    exhibit(
        "write_protected",
        "/dev/mapbuf/named/museum-vmalloc 1 0 shared poke",
        "write-protected",
        "",
        SIGSEGV,
    ),
];

/// Drivers that stop the kernel in the middle (`BUG_ON` of `vmf_insert_pfn_prot` in `mm/memory.c`): the program cannot
/// end, and the machine has to be started again. The status is that of SIGSEGV, by which the kernel meant to end it.
pub const STOPPING: &[Exhibit] = &[
    exhibit("pfn_flag_bug", "1", "pfn-flag-missing", "my_fault", SIGSEGV),
    exhibit(
        "cow_at_fault",
        "1 0 private",
        "copy-on-write-at-fault",
        "my_fault",
        SIGSEGV,
    ),
];

/// A device that answers nothing, whose memory `/proc/iomem` knows: only reading shows it.
pub const SILENT: Exhibit = exhibit("reads_ones", "4", "nothing-behind", "my_mmap", 0);

/// Uses of drivers that are right, and of the exhibits where they are: no cause may be found.
pub const RIGHT: &[(&str, &str)] = &[
    ("dma_heap", "dma-heap"),
    ("udmabuf", "udmabuf"),
    ("dev_mem", "/dev/mem 16 0xf0"),
    (
        "mapbuf_vmalloc_private",
        "/dev/mapbuf/named/museum-vmalloc 16 0 private",
    ),
    (
        "mapbuf_vmalloc_direct",
        "/dev/mapbuf/named/museum-vmalloc 16 0 shared direct",
    ),
    (
        "mapbuf_pages_uring",
        "/dev/mapbuf/named/museum-pages 16 0 shared uring",
    ),
    (
        "mapbuf_pages_vmread",
        "/dev/mapbuf/named/museum-pages 16 0 shared vmread",
    ),
    (
        "mapbuf_contiguous",
        "/dev/mapbuf/named/museum-contiguous 16",
    ),
    ("mapbuf_coherent", "/dev/mapbuf/named/museum-coherent 8 8"),
    ("mapbuf_uncached", "/dev/mapbuf/named/museum-uncached 16"),
    ("copy_on_write_but_shared", "/dev/broken-copy-on-write 16"),
    ("beyond_mapped_but_within", "/dev/broken-beyond-mapped 4"),
    ("insert_failed_but_from_0", "/dev/broken-insert-failed 16"),
];
