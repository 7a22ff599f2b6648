//! Devices and the knobs of the kernel.

use serde_json::json;

use super::{profiles, python};
use crate::harness::Home;

#[test]
fn only_harmless_devices_are_there_and_none_can_be_made() {
    crate::harness::needs!("python3");
    const HARMLESS: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];
    let home = Home::new();
    let program = "import os, stat, json\n\
        found = []\n\
        for at, _, files in os.walk('/dev'):\n\
        \x20   for f in files:\n\
        \x20       s = os.lstat(os.path.join(at, f))\n\
        \x20       if stat.S_ISBLK(s.st_mode) or stat.S_ISCHR(s.st_mode): found.append(os.path.join(at, f))\n\
        made = []\n\
        for place in ['/tmp', '/dev', '/home/user', '/dev/shm']:\n\
        \x20   for kind in (stat.S_IFBLK, stat.S_IFCHR):\n\
        \x20       try:\n\
        \x20           os.mknod(place + '/d', kind | 0o666, os.makedev(8, 0)); made.append(place)\n\
        \x20       except OSError: pass\n\
        print(json.dumps([found, made]))";
    for (sandbox, user) in profiles(&home) {
        let seen = python(&sandbox, user, program);
        for device in seen[0].as_array().expect("a list") {
            let path = device.as_str().expect("text");
            let name = path.strip_prefix("/dev/").unwrap_or(path);
            let known = HARMLESS.contains(&name) || name.starts_with("pts/") || name == "console";
            assert!(known, "{path}");
        }
        assert_eq!(seen[1], json!([]), "devices were made");
    }
}

#[test]
fn the_kernels_knobs_cannot_be_turned() {
    crate::harness::needs!("python3");
    const KNOBS: [&str; 9] = [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/fs/binfmt_misc/register",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/proc/irq/default_smp_affinity",
    ];
    let home = Home::new();
    let program = format!(
        "import json, os\nopened = []\n\
         for path in {KNOBS:?}:\n\
         \x20   try:\n\
         \x20       os.close(os.open(path, os.O_WRONLY)); opened.append(path)\n\
         \x20   except OSError: pass\n\
         print(json.dumps(opened))"
    );
    for (sandbox, user) in profiles(&home) {
        assert_eq!(python(&sandbox, user, &program), json!([]), "as {user}");
    }
}

#[test]
fn the_kernels_memory_and_log_are_not_readable() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let program = "import json, os\nopened = []\n\
         for path in ['/proc/kcore', '/proc/kmsg', '/dev/kmsg', '/dev/mem', '/dev/port', '/proc/timer_list']:\n\
         \x20   try:\n\
         \x20       f = os.open(path, os.O_RDONLY | os.O_NONBLOCK)\n\
         \x20       if os.read(f, 1): opened.append(path)\n\
         \x20   except OSError: pass\n\
         print(json.dumps(opened))";
    for (sandbox, user) in profiles(&home) {
        assert_eq!(python(&sandbox, user, program), json!([]), "as {user}");
    }
}
