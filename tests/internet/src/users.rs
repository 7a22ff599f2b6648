//! What users without rights need on the host, for servers that they run.

use std::{fs, io};

use warren_sys::namespaces;

use crate::{InternetError, NAME_SERVER, wires};

/// Further ids that [`let_out`] grants to a user: the first, and how many.
const RANGE: (u32, u32) = (3_000_000, 65_536);

/// Gives the calling thread, and what it starts, a view of the files in which every user may make
/// tap devices, this user has a name and further ids, and the host's resolver is the
/// [`NAME_SERVER`].
///
/// To be called inside of [`crate::Internet::as_host`]; the view ends with the thread and with what
/// it has started.
///
/// # Errors
///
/// [`InternetError::NotPossible`] where the machine lets nobody do that.
pub fn let_out(uid: u32) -> Result<(), InternetError> {
    let failed = |source| InternetError::Io { doing: "let users out", source };
    namespaces::leave_mounts().map_err(failed)?;
    let (first, count) = RANGE;
    // The files are made where the device is, for nothing else is written there.
    let lines = format!(
        "\
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /dev/net
mknod -m 666 /dev/net/tun c 10 200
echo nameserver {NAME_SERVER} > /dev/net/resolv.conf
cat /etc/passwd > /dev/net/passwd
echo warren-test:x:{uid}:{uid}::/:/bin/sh >> /dev/net/passwd
echo {uid}:{first}:{count} > /dev/net/subuid
mount --bind /dev/net/resolv.conf /etc/resolv.conf
mount --bind /dev/net/passwd /etc/passwd
for file in subuid subgid; do
    test ! -e /etc/$file || mount --bind /dev/net/subuid /etc/$file
done
"
    );
    wires::feed("sh", &["-e"], &lines)?;
    // As systemd has it; without, nobody sends echo requests but root.
    match fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}
