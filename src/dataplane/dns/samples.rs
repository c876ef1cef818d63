//! Messages for tests, written by simple-dns.

use simple_dns::rdata::{A, CNAME, OPT, RData, SOA};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord};

/// The question of a stub resolver, without OPT.
pub(super) fn ask(id: u16, name: &str, kind: u16) -> Vec<u8> {
    query(id, name, kind).build_bytes_vec().unwrap()
}

/// The same with OPT, for answers of this size.
pub(super) fn ask_edns(id: u16, name: &str, kind: u16, udp_packet_size: u16) -> Vec<u8> {
    let mut query = query(id, name, kind);
    *query.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
    query.build_bytes_vec().unwrap()
}

fn query(id: u16, name: &str, kind: u16) -> Packet<'_> {
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let kind = QTYPE::try_from(kind).unwrap();
    query.questions.push(Question::new(Name::new_unchecked(name), kind, QCLASS::CLASS(CLASS::IN), false));
    query
}

/// An answer to a question: one address for each TTL, and SOA with this TTL and minimum; with OPT, perhaps.
pub(super) fn reply(question: &[u8], ttls: &[u32], soa: Option<(u32, u32)>, with_opt: bool) -> Vec<u8> {
    let question = Packet::parse(question).unwrap();
    let mut reply = Packet::new_reply(question.id());
    reply.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let name = question.questions[0].qname.clone();
    reply.questions = question.questions.clone();
    if ttls.len() > 1 {
        let to = RData::CNAME(CNAME(name.clone()));
        reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, ttls[0], to));
    }
    for (number, ttl) in ttls.iter().enumerate() {
        let data = RData::A(A { address: 0xc000_0200 + number as u32 });
        reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, *ttl, data));
    }
    if let Some((ttl, minimum)) = soa {
        let (mname, rname) = (Name::new_unchecked("ns.example"), Name::new_unchecked("root.example"));
        let soa = SOA { mname, rname, serial: 1, refresh: 2, retry: 3, expire: 4, minimum };
        reply.name_servers.push(ResourceRecord::new(
            Name::new_unchecked("example"),
            CLASS::IN,
            ttl,
            RData::SOA(soa),
        ));
    }
    if with_opt {
        *reply.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: 4096, version: 0 });
    }
    reply.build_bytes_vec_compressed().unwrap()
}
