//! Names of `errno` values.

use rustix::io::Errno;
use std::fmt;

/// The `errno` values of Linux by name (`include/uapi/asm-generic/errno.h`).
const NAMES: &[(Errno, &str)] = &[
    (Errno::TOOBIG, "E2BIG"),
    (Errno::ACCESS, "EACCES"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::ADV, "EADV"),
    (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::ALREADY, "EALREADY"),
    (Errno::BADE, "EBADE"),
    (Errno::BADF, "EBADF"),
    (Errno::BADFD, "EBADFD"),
    (Errno::BADMSG, "EBADMSG"),
    (Errno::BADR, "EBADR"),
    (Errno::BADRQC, "EBADRQC"),
    (Errno::BADSLT, "EBADSLT"),
    (Errno::BFONT, "EBFONT"),
    (Errno::BUSY, "EBUSY"),
    (Errno::CANCELED, "ECANCELED"),
    (Errno::CHILD, "ECHILD"),
    (Errno::CHRNG, "ECHRNG"),
    (Errno::COMM, "ECOMM"),
    (Errno::CONNABORTED, "ECONNABORTED"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::CONNRESET, "ECONNRESET"),
    (Errno::DEADLK, "EDEADLK"),
    (Errno::DESTADDRREQ, "EDESTADDRREQ"),
    (Errno::DOM, "EDOM"),
    (Errno::DOTDOT, "EDOTDOT"),
    (Errno::DQUOT, "EDQUOT"),
    (Errno::EXIST, "EEXIST"),
    (Errno::FAULT, "EFAULT"),
    (Errno::FBIG, "EFBIG"),
    (Errno::HOSTDOWN, "EHOSTDOWN"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
    (Errno::HWPOISON, "EHWPOISON"),
    (Errno::IDRM, "EIDRM"),
    (Errno::ILSEQ, "EILSEQ"),
    (Errno::INPROGRESS, "EINPROGRESS"),
    (Errno::INTR, "EINTR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::IO, "EIO"),
    (Errno::ISCONN, "EISCONN"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::ISNAM, "EISNAM"),
    (Errno::KEYEXPIRED, "EKEYEXPIRED"),
    (Errno::KEYREJECTED, "EKEYREJECTED"),
    (Errno::KEYREVOKED, "EKEYREVOKED"),
    (Errno::L2HLT, "EL2HLT"),
    (Errno::L2NSYNC, "EL2NSYNC"),
    (Errno::L3HLT, "EL3HLT"),
    (Errno::L3RST, "EL3RST"),
    (Errno::LIBACC, "ELIBACC"),
    (Errno::LIBBAD, "ELIBBAD"),
    (Errno::LIBEXEC, "ELIBEXEC"),
    (Errno::LIBMAX, "ELIBMAX"),
    (Errno::LIBSCN, "ELIBSCN"),
    (Errno::LNRNG, "ELNRNG"),
    (Errno::LOOP, "ELOOP"),
    (Errno::MEDIUMTYPE, "EMEDIUMTYPE"),
    (Errno::MFILE, "EMFILE"),
    (Errno::MLINK, "EMLINK"),
    (Errno::MSGSIZE, "EMSGSIZE"),
    (Errno::MULTIHOP, "EMULTIHOP"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NAVAIL, "ENAVAIL"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NETRESET, "ENETRESET"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::NFILE, "ENFILE"),
    (Errno::NOANO, "ENOANO"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::NOCSI, "ENOCSI"),
    (Errno::NODATA, "ENODATA"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOENT, "ENOENT"),
    (Errno::NOEXEC, "ENOEXEC"),
    (Errno::NOKEY, "ENOKEY"),
    (Errno::NOLCK, "ENOLCK"),
    (Errno::NOLINK, "ENOLINK"),
    (Errno::NOMEDIUM, "ENOMEDIUM"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::NOMSG, "ENOMSG"),
    (Errno::NONET, "ENONET"),
    (Errno::NOPKG, "ENOPKG"),
    (Errno::NOPROTOOPT, "ENOPROTOOPT"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::NOSR, "ENOSR"),
    (Errno::NOSTR, "ENOSTR"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::NOTBLK, "ENOTBLK"),
    (Errno::NOTCONN, "ENOTCONN"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::NOTEMPTY, "ENOTEMPTY"),
    (Errno::NOTNAM, "ENOTNAM"),
    (Errno::NOTRECOVERABLE, "ENOTRECOVERABLE"),
    (Errno::NOTSOCK, "ENOTSOCK"),
    (Errno::NOTTY, "ENOTTY"),
    (Errno::NOTUNIQ, "ENOTUNIQ"),
    (Errno::NXIO, "ENXIO"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::OVERFLOW, "EOVERFLOW"),
    (Errno::OWNERDEAD, "EOWNERDEAD"),
    (Errno::PERM, "EPERM"),
    (Errno::PFNOSUPPORT, "EPFNOSUPPORT"),
    (Errno::PIPE, "EPIPE"),
    (Errno::PROTO, "EPROTO"),
    (Errno::PROTONOSUPPORT, "EPROTONOSUPPORT"),
    (Errno::PROTOTYPE, "EPROTOTYPE"),
    (Errno::RANGE, "ERANGE"),
    (Errno::REMCHG, "EREMCHG"),
    (Errno::REMOTE, "EREMOTE"),
    (Errno::REMOTEIO, "EREMOTEIO"),
    (Errno::RESTART, "ERESTART"),
    (Errno::RFKILL, "ERFKILL"),
    (Errno::ROFS, "EROFS"),
    (Errno::SHUTDOWN, "ESHUTDOWN"),
    (Errno::SOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
    (Errno::SPIPE, "ESPIPE"),
    (Errno::SRCH, "ESRCH"),
    (Errno::SRMNT, "ESRMNT"),
    (Errno::STALE, "ESTALE"),
    (Errno::STRPIPE, "ESTRPIPE"),
    (Errno::TIME, "ETIME"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
    (Errno::TOOMANYREFS, "ETOOMANYREFS"),
    (Errno::TXTBSY, "ETXTBSY"),
    (Errno::UCLEAN, "EUCLEAN"),
    (Errno::UNATCH, "EUNATCH"),
    (Errno::USERS, "EUSERS"),
    (Errno::XDEV, "EXDEV"),
    (Errno::XFULL, "EXFULL"),
];

/// The name of an `errno`, as in the manual pages, or `None` for a number that has none: the kernel keeps 512 and above to
/// itself (`include/linux/errno.h`).
///
/// ```
/// assert_eq!(mapbuf::errno_name(22), Some("EINVAL"));
/// assert_eq!(mapbuf::errno_name(-1), None);
/// ```
pub fn errno_name(errno: i32) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(known, _)| known.raw_os_error() == errno)
        .map(|&(_, name)| name)
}

/// The `errno` with a name, as in the manual pages, in upper or lower case.
///
/// ```
/// assert_eq!(mapbuf::errno_value("einval"), Some(22));
/// assert_eq!(mapbuf::errno_value("ENOTHING"), None);
/// ```
pub fn errno_value(name: &str) -> Option<i32> {
    NAMES
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(name))
        .map(|(errno, _)| errno.raw_os_error())
}

/// Shows an `errno` by its name, or by its number.
pub(crate) struct Shown(pub(crate) i32);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}
