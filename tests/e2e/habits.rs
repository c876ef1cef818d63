//! Every command of the articles, `docker` replaced by `tapswitch`, is accepted, or refused with the line to
//! type instead.

use crate::harness::{Lab, text};

scenarios! {
    every_command_of_the_articles_is_understood
    what_an_image_would_have_been
}

/// What becomes of a line.
enum Then {
    /// It is done.
    Done,
    /// It is done, and prints this among others.
    Says(&'static str),
    /// It is refused by a line that says this.
    Type(&'static str),
}
use Then::{Done, Says, Type};

/// In the order they are typed: later lines are about what earlier ones have made.
const LINES: &[(&str, Then)] = &[
    // A: networks of one's own, and who reaches whom.
    ("docker network ls", Says("bridge")),
    ("docker network inspect bridge", Says("\"com.docker.network.bridge.enable_icc\": \"true\"")),
    ("docker run -itd --name one ubuntu", Done),
    ("docker run -itd --name=two busybox sh", Done),
    ("docker network create --driver bridge isolated_nw", Done),
    (
        "docker network create --driver bridge --subnet 192.168.100.0/24 --ip-range 192.168.100.128/25 my-net",
        Done,
    ),
    ("docker network create -o com.docker.network.bridge.enable_icc=false no-icc", Done),
    ("docker network create -o \"com.docker.network.bridge.enable_ip_masquerade\"=\"false\" no-masq", Done),
    ("docker run --network=isolated_nw -itd --name=three busybox", Done),
    ("docker run --net isolated_nw -dit --name four ubuntu:14.04 /bin/bash", Done),
    ("docker network inspect isolated_nw", Says("\"Name\": \"four\"")),
    ("docker exec -it one ping -c 1 172.17.0.3", Says("ttl=64")),
    ("docker exec three ping -c 1 four", Says("ttl=64")),
    ("docker attach one", Type("'tapswitch exec -it NAME bash'")),
    ("sudo brctl show", Says("docker0")),
    ("brctl showmacs docker0", Says("is local?")),
    ("sudo brctl addif docker0 eth0", Type("'tapswitch network connect")),
    ("ip link show docker0", Says("docker0: <BROADCAST")),
    ("sudo iptables -L", Says("Chain FORWARD (policy DROP)")),
    ("sudo iptables -nL", Says("DOCKER-ISOLATION")),
    ("sudo iptables -t nat -L -n", Says("MASQUERADE")),
    ("sudo iptables -A FORWARD -i docker0 -j ACCEPT", Type("tapswitch rule add")),
    // B: types of networks, names, ports.
    ("docker run -d -p 80 --name web nginx", Done),
    ("docker run -itd --expose 5432 -P --name db alpine sh", Done),
    ("docker port web", Says("80/tcp -> ")),
    ("docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' one", Says("172.17.0.2\n")),
    (
        "docker inspect --format='{{ .NetworkSettings.Networks.bridge.MacAddress }}' one",
        Says("02:42:ac:11:00:02\n"),
    ),
    ("docker inspect one", Says("\"Image\": \"ubuntu\"")),
    ("docker run --rm --network=none alpine ip addr", Says("lo:")),
    ("docker run --rm --net=host alpine hostname", Done),
    ("docker run -itd --privileged --name=router --cap-add=NET_ADMIN --net=isolated_nw centos", Done),
    ("docker network connect my-net router", Done),
    ("docker network disconnect my-net router", Done),
    ("docker network rm my-net", Says("my-net")),
    ("docker network rm isolated_nw", Type("isolated_nw")),
    // C: resolvers, links, the daemon's flags.
    ("docker run ubuntu cat /etc/resolv.conf", Says("nameserver ")),
    ("docker run --rm --dns 8.8.8.8 busybox cat /etc/resolv.conf", Says("nameserver 8.8.8.8\n")),
    ("docker run --rm -h box ubuntu hostname", Says("box\n")),
    ("docker run -itd --link=db:database --name client ubuntu", Done),
    ("docker exec client cat /etc/hosts", Says("database")),
    ("docker ps", Says("client")),
    ("docker ps -a", Says("Exited (0)")),
    ("docker ps -q", Done),
    ("docker container ls -a", Says("Exited (0)")),
    ("sysctl net.ipv4.ip_forward", Says("net.ipv4.ip_forward = 1")),
    ("sudo sysctl -w net.ipv4.ip_forward=1", Says("net.ipv4.ip_forward = 1")),
    ("sysctl net.ipv4.conf.all.forwarding", Says("= 1")),
    ("sudo conntrack -L", Done),
    ("docker logs web", Done),
    ("docker daemon --icc=false --iptables=false", Type("another daemon")),
    ("docker -d --icc=false", Type("'tapswitch daemon -d'")),
    // Images, and the rest of Docker.
    ("docker images", Type("'tapswitch run -it bash'")),
    ("docker pull centos", Type("'tapswitch run -it bash'")),
    ("docker build -t web .", Type("'tapswitch run -it bash'")),
    ("docker run -v /data:/data ubuntu", Type("nothing to mount")),
    ("docker exec -u nobody one id", Type("who runs it is root inside")),
    ("docker run --init --rm --net-alias=x --net=no-icc ubuntu true", Done),
    ("docker start -ai one", Type("'tapswitch logs -f NAME'")),
    ("docker container prune", Type("'tapswitch rm NAME'")),
    ("docker restart -t 0 one", Says("one\n")),
    ("docker version", Type("'tapswitch --version'")),
    ("docker info", Type("'tapswitch status'")),
    // The end of each.
    ("docker stop -t 0 one two", Says("one\ntwo\n")),
    ("docker start one", Says("one\n")),
    ("docker kill one", Says("one\n")),
    ("docker stop --time=0 one", Says("one\n")),
    ("docker rm one two", Says("one\ntwo\n")),
    ("docker rm -fv three four router web db client", Says("router\n")),
    ("docker network rm isolated_nw no-icc no-masq", Says("isolated_nw\n")),
];

fn every_command_of_the_articles_is_understood(lab: &Lab) {
    lab.docker0();
    let mut wrong = Vec::new();
    for (line, then) in LINES {
        let output = lab.types(&line.replace("docker ", "tapswitch "));
        let (printed, said) = (text(&output.stdout), text(&output.stderr));
        let is_so = match then {
            Done => output.status.success(),
            Says(what) => output.status.success() && printed.contains(what),
            Type(what) => {
                matches!(output.status.code(), Some(1 | 2))
                    && said.lines().count() == 1
                    && said.contains(what)
            }
        };
        if !is_so {
            wrong.push(format!("{line}: {}\n{printed}{said}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn what_an_image_would_have_been(lab: &Lab) {
    lab.docker0();
    let output = lab.ts("run --rm ubuntu cat /etc/hostname");
    assert_eq!(text(&output.stdout).trim().len(), 12, "its own file: {output:?}");
    let note = "tapswitch: no image 'ubuntu' here, containers see this machine's files: running 'cat /etc/hostname'\n";
    assert_eq!(text(&output.stderr), note);
    let output = lab.ts("run --rm redis:5");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("'tapswitch run [FLAGS] redis:5 COMMAND'"), "{output:?}");
    lab.ok("run -d --name web nginx:alpine");
    let row = lab.row("ps", "name", "web");
    assert_eq!(
        (&row["image"], &row["command"]),
        (&"nginx:alpine".into(), &"python3 -m http.server --directory /run 80".into())
    );
    assert!(lab.ok("ps").contains("nginx:alpine"));
    // Started once more it is the same, and no program of this machine is ever passed over.
    lab.ok("stop -t 0 web");
    lab.ok("start web");
    assert_eq!(lab.row("ps", "name", "web")["image"], "nginx:alpine");
    assert_eq!(lab.ts("run --rm no-such-program -c1 alice").status.code(), Some(127));
    assert_eq!(lab.ok("run --rm echo ubuntu"), "ubuntu\n");
}
