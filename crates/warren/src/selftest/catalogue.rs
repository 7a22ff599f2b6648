//! The attack programs and what each must report. A program that leaves one out has failed it.

/// A program for the inside, and its attacks.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    pub(super) attacks: &'static [&'static str],
}

/// What every program starts with.
pub(super) const PRELUDE: &str = include_str!("attacks/prelude.py");

/// What every program ends with.
pub(super) const MAIN: &str = include_str!("attacks/main.py");

/// What the other sandbox does.
pub(super) const NEIGHBOUR: &str = include_str!("attacks/neighbour.py");

pub(super) const AREAS: [Area; 6] = [
    Area {
        name: "files",
        program: include_str!("attacks/files.py"),
        attacks: &[
            "paths",
            "roots_of_processes",
            "inherited_descriptors",
            "links",
            "chroot_escape",
            "file_handles",
            "search",
            "passwords",
            "closed_files",
            "sockets",
            "sockets_lying_about",
        ],
    },
    Area {
        name: "neighbours",
        program: include_str!("attacks/neighbours.py"),
        attacks: &[
            "files_of_another",
            "processes_of_another",
            "memory_of_another",
            "address_of_another",
            "names_of_another",
        ],
    },
    Area {
        name: "network",
        program: include_str!("attacks/network.py"),
        attacks: &[
            "raw_sockets",
            "vsock",
            "seldom_families",
            "audit",
            "own_network",
            "host_addresses",
            "ports_of_the_gateway",
            "metadata",
        ],
    },
    Area {
        name: "kernel",
        program: include_str!("attacks/kernel.py"),
        attacks: &[
            "mounts",
            "new_namespaces",
            "joining_namespaces",
            "modules",
            "kexec",
            "bpf",
            "perf_events",
            "io_uring",
            "userfaultfd",
            "keyrings",
            "clock",
            "power",
            "accounting",
            "kernel_log",
            "tracing",
            "host_name",
            "other_system_call_tables",
        ],
    },
    Area {
        name: "devices",
        program: include_str!("attacks/devices.py"),
        attacks: &[
            "nodes",
            "making_nodes",
            "memory",
            "kernel_settings",
            "core_pattern",
            "sysrq",
            "cgroups",
        ],
    },
    Area {
        name: "processes",
        program: include_str!("attacks/processes.py"),
        attacks: &[
            "the_agent",
            "processes_of_the_host",
            "namespaces",
            "user_ids",
            "capabilities",
            "terminals",
        ],
    },
];
