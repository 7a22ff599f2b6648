//! The way out of a server that an ordinary user runs.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FileType, Mode, mknodat},
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
    thread::{Gid, Uid},
};
use warren_core::spec::Network;
use warren_runtime::net::{
    Net, NetConfig,
    outside::Outside,
    policy::Policy,
    uplink::{DIRECTORIES, Routes, Tool, Uplink, UplinkConfig, wait_until_ready},
};
use warren_sys::{
    namespaces,
    netlink::{
        Socket,
        route::{self, LOOPBACK_INDEX},
    },
    spawn::{Identity, Program, Spawned, Streams, spawn},
};

use crate::lab::{
    HOST, PATIENCE, PRIVATE, PUBLIC, ROUTER, SILENCE, ask_tcp, config, in_lab, inside, serve, skip,
};

/// A user that has no files, groups or name.
const NOBODYS_UID: u32 = 61_234;

#[test]
fn an_ordinary_user_reaches_the_outside_and_not_the_host() {
    in_lab(|lab| {
        let directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
        let Some((tool, _)) = Tool::find(&directories).first().cloned() else {
            return skip("neither pasta nor slirp4netns is installed");
        };
        if let Err(error) = open_tun_to_all() {
            return skip(&format!("no tap device for ordinary users: {error}"));
        }
        lab.serve();
        serve();
        let names = UdpSocket::bind("127.0.0.53:53").unwrap();
        let outer = Outer::start();
        let log = tempfile::tempfile().unwrap();
        let (ended, end) = io::pipe().unwrap();
        let supervisor = {
            let (target, log) = (outer.process.pid, log.try_clone().unwrap());
            let (tell, told) = std::sync::mpsc::channel();
            let mut routes = inside(&outer.network, Routes::here).unwrap();
            let supervisor = thread::spawn(move || {
                become_nobody();
                let (log, patience) = (log.as_fd(), PATIENCE);
                let config =
                    UplinkConfig { target, directories: &directories, only: None, log, patience };
                let (uplink, failures) = Uplink::start(&config, &mut routes).unwrap();
                assert_eq!((uplink.tool(), failures), (tool, Vec::new()));
                tell.send(uplink.pid()).unwrap();
                // The second has gone by the time it is asked for.
                let mut users = vec![OwnedFd::from(ended.try_clone().unwrap()), ended.into()];
                uplink.supervise(|| Some((users.pop()?, target)))
            });
            (supervisor, told.recv().unwrap())
        };
        let (supervisor, first) = supervisor;
        inside(&outer.network, || wait_until_ready(PATIENCE)).unwrap_or_else(|error| {
            panic!("{error}; {}", text_of(&log));
        });

        // The user's processes in the namespace itself.
        let public = inside(&outer.network, || ask_tcp(PUBLIC, PATIENCE));
        assert_eq!(public.unwrap(), HOST.to_string());
        // By default the router's address would lead to the host's own loopback.
        let router = inside(&outer.network, || ask_tcp(ROUTER, PATIENCE));
        assert_eq!(router.unwrap(), HOST.to_string(), "the router answers, not the host");
        inside(&outer.network, || ask_tcp(HOST, SILENCE)).unwrap_err();

        // Names reach the host's resolver, which is on its loopback.
        let asked = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        inside(&outer.network, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(asked, tool.name_server()).unwrap();
        });
        names.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut question = [0; 64];
        let length = names.recv(&mut question).unwrap();
        assert!(question[..length].ends_with(b"\x01a\0\0\x01\0\x01"), "{question:?}");

        // Sandboxes of a server in there.
        let outside = Some(Arc::new(Outside::here().unwrap()));
        let (sandbox, net) = inside(&outer.network, || {
            let net = Net::open(NetConfig { outside, ..config("rootless", 0) }).unwrap();
            (net.attach(0).unwrap(), net)
        });
        let (public, private) =
            inside(&sandbox.netns, || (ask_tcp(PUBLIC, PATIENCE), ask_tcp(PRIVATE, PATIENCE)));
        assert_eq!(public.unwrap(), HOST.to_string());
        assert_eq!(private.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // An address that the host gets meanwhile is as far away as the others.
        let second = Ipv4Addr::new(203, 0, 113, 77);
        let ask = || inside(&sandbox.netns, || ask_tcp(second, SILENCE));
        let mut host = Socket::route().unwrap();
        let mut change = |request| host.transact("change an address", &mut [request]).unwrap();
        change(route::add_address(LOOPBACK_INDEX, second, 32, None));
        let begun = Instant::now();
        while !ask().is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused) {
            assert!(begun.elapsed() < PATIENCE, "the host is reached by its second address");
        }
        change(route::delete_address(LOOPBACK_INDEX, second, 32));
        // Rules work in there as well.
        let rules = "allow 203.0.113.5:8080\notherwise deny\n";
        inside(&outer.network, || {
            let network = Network::Rules(Arc::new(rules.parse().unwrap()));
            let policy = Policy::of(&network).unwrap();
            net.set_policy(0, policy, sandbox.netns.as_fd()).unwrap();
        });
        let (allowed, denied) =
            inside(&sandbox.netns, || (ask_tcp(PUBLIC, PATIENCE), ask_tcp(ROUTER, PATIENCE)));
        assert_eq!(allowed.unwrap(), HOST.to_string());
        assert_eq!(denied.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(net.traffic(0).unwrap().unwrap().connections, 1);
        drop((sandbox, net));

        // It comes back when it dies, and goes when nobody needs it.
        inside(&outer.network, || {
            let mut events = Socket::route().unwrap();
            events.subscribe(route::ROUTE_EVENTS).unwrap();
            kill(first);
            while has_default_route() {
                assert!(events.wait(PATIENCE).unwrap(), "the first uplink did not end");
            }
            wait_until_ready(PATIENCE).unwrap();
        });
        let again = inside(&outer.network, || ask_tcp(PUBLIC, PATIENCE));
        assert_eq!(again.unwrap(), HOST.to_string());
        drop(end);
        supervisor.join().unwrap().unwrap();
        assert!(!inside(&outer.network, has_default_route));
    });
}

#[test]
fn without_a_way_out_waiting_ends() {
    in_lab(|lab| {
        let error = inside(&lab.internet, || wait_until_ready(Duration::from_millis(10)));
        assert!(error.unwrap_err().to_string().starts_with("no default route"));
    });
}

/// Gives the calling thread a `/dev/net` of its own in which everybody may make tap devices, and
/// a `resolv.conf` that names a resolver on loopback.
fn open_tun_to_all() -> io::Result<()> {
    namespaces::leave_mounts()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("none", "/dev/net", "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
    let directory = File::open("/dev/net")?;
    let all = Mode::from_raw_mode(0o666);
    let tun = rustix::fs::makedev(10, 200);
    mknodat(&directory, "tun", FileType::CharacterDevice, all, tun)?;
    rustix::fs::chmodat(&directory, "tun", all, rustix::fs::AtFlags::empty())?;
    std::fs::write("/dev/net/resolv.conf", "nameserver 127.0.0.53\n")?;
    mount_bind("/dev/net/resolv.conf", "/etc/resolv.conf")?;
    Ok(())
}

/// A process of an ordinary user in a user and network namespace of its own.
struct Outer {
    process: Spawned,
    network: OwnedFd,
}

impl Outer {
    fn start() -> Self {
        let (mut reader, writer) = io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let script = "echo ready; exec sleep 600";
        let words = ["/usr/bin/unshare", "-Urn", "/bin/sh", "-c", script];
        let arguments: Vec<CString> = words.map(|word| CString::new(word).unwrap()).into();
        let identity = Identity { uid: NOBODYS_UID, gid: NOBODYS_UID, groups: Vec::new() };
        let process = spawn(&Program {
            path: &arguments[0],
            arguments: &arguments,
            environment: &[CString::new("PATH=/usr/bin:/bin").unwrap()],
            directory: c"/",
            identity: Some(&identity),
            streams: Streams::Each([null.as_fd(), writer.as_fd(), null.as_fd()]),
            open_files: None,
            mark: None,
        })
        .unwrap();
        drop(writer);
        let mut ready = [0; 6];
        reader.read_exact(&mut ready).unwrap();
        let network = File::open(format!("/proc/{}/ns/net", process.pid)).unwrap().into();
        Self { process, network }
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        pidfd_send_signal(&self.process.pidfd, Signal::KILL).unwrap();
        waitid(WaitId::PidFd(self.process.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    }
}

fn become_nobody() {
    rustix::thread::set_thread_groups(&[]).unwrap();
    let gid = Gid::from_raw(NOBODYS_UID);
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    let uid = Uid::from_raw(NOBODYS_UID);
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

fn has_default_route() -> bool {
    let routes = route::routes(&mut Socket::route().unwrap()).unwrap();
    routes.iter().any(|route| route.prefix == 0 && route.link.is_some())
}

fn text_of(log: &File) -> String {
    let path = format!("/proc/self/fd/{}", log.as_raw_fd());
    std::fs::read_to_string(Path::new(&path)).unwrap_or_default()
}
