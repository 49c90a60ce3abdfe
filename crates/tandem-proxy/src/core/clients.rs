//! CLIENT: what a standalone server would say of the clients of this thread, and why not, where it cannot be said.

use super::client::Life;
use super::intake::Taken;
use super::{Core, text};
use crate::command::Command;
use crate::frame::Request;

/// Why there is no client side caching here.
const TRACKING: &str = " is not let through the proxy: a server tells who has read a key on the connection that \
read it, which clients of a proxy share; connect to the server itself for that";

impl Core {
    /// The sub-commands of CLIENT that concern the client itself.
    pub(super) fn client_command(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Taken {
        let argument = |at| request.argument(at).unwrap_or_default();
        match command.name {
            "client|id" => {
                let reply = format!(":{}\r\n", self.desk.clients[index as usize].id);
                self.desk.say(index, reply.as_bytes());
            }
            "client|setname" => {
                let name = argument(2);
                if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
                    self.desk.say(index, text::BAD_NAME);
                    return Taken::Yes;
                }
                if name.is_empty() && self.desk.clients[index as usize].cold.is_none() {
                    // Nothing to forget.
                } else {
                    self.desk.cold(index).name = name.to_vec();
                }
                self.desk.say(index, b"+OK\r\n");
            }
            "client|getname" => {
                let name = self.desk.clients[index as usize]
                    .cold
                    .as_ref()
                    .map(|cold| cold.name.clone());
                match name {
                    Some(name) if !name.is_empty() => self.say_bulk(index, &name),
                    Some(_) | None if self.desk.clients[index as usize].resp3 => {
                        self.desk.say(index, b"_\r\n");
                    }
                    Some(_) | None => self.desk.say(index, b"$-1\r\n"),
                }
            }
            "client|setinfo" => {
                let value = argument(3).to_vec();
                if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
                    let error = text::about(
                        "",
                        argument(2),
                        " cannot contain spaces, newlines or special characters.",
                    );
                    self.desk.say(index, &error);
                    return Taken::Yes;
                }
                if argument(2).eq_ignore_ascii_case(b"lib-name") {
                    self.desk.cold(index).lib_name = value;
                } else if argument(2).eq_ignore_ascii_case(b"lib-ver") {
                    self.desk.cold(index).lib_ver = value;
                } else {
                    let error = text::about("Unrecognized option ", argument(2), "");
                    self.desk.say(index, &error);
                    return Taken::Yes;
                }
                self.desk.say(index, b"+OK\r\n");
            }
            "client|info" => {
                let line = self.describe(index);
                self.say_bulk(index, &line);
            }
            "client|list" => self.list_clients(index, request),
            "client|no-evict" | "client|no-touch" | "client|capa" => {
                self.desk.say(index, b"+OK\r\n");
            }
            "client|getredir" => self.desk.say(index, b":-1\r\n"),
            "client|tracking" if argument(2).eq_ignore_ascii_case(b"off") => {
                self.desk.say(index, b"+OK\r\n");
            }
            "client|tracking" => {
                let error = text::about("", command.name.as_bytes(), TRACKING);
                self.desk.say(index, &error);
            }
            "client|trackinginfo" => self.tracking_info(index),
            _ => self.unsupported(
                index,
                command,
                "concerns connections to one server, which clients of a proxy share",
            ),
        }
        Taken::Yes
    }

    /// What CLIENT INFO says, as far as the proxy knows it.
    fn describe(&self, index: u32) -> Vec<u8> {
        let client = &self.desk.clients[index as usize];
        let (name, lib_name, lib_ver) = match &client.cold {
            Some(cold) => (&cold.name[..], &cold.lib_name[..], &cold.lib_ver[..]),
            None => (&[][..], &[][..], &[][..]),
        };
        let mut line = format!("id={} name=", client.id).into_bytes();
        line.extend_from_slice(name);
        let identity = &self.banks[client.bank as usize].identity;
        line.extend_from_slice(format!(" db={}", identity.database).as_bytes());
        line.extend_from_slice(b" sub=0 psub=0 multi=-1 cmd=client|info user=");
        line.extend_from_slice(self.user_name(index));
        line.extend_from_slice(b" resp=");
        line.push(if client.resp3 { b'3' } else { b'2' });
        line.extend_from_slice(b" lib-name=");
        line.extend_from_slice(lib_name);
        line.extend_from_slice(b" lib-ver=");
        line.extend_from_slice(lib_ver);
        line.push(b'\n');
        line
    }

    /// `CLIENT LIST [TYPE type] [ID id ...]`: those of the same pool, on the same thread, and of the same user of the
    /// servers, because only they know whether it might see the others.
    fn list_clients(&mut self, index: u32, request: &Request<'_>) {
        let mut arguments = request.arguments().skip(2).map(|argument| argument.value);
        let mut ids: Option<Vec<u64>> = None;
        let mut subscribed = None;
        match arguments.next() {
            None => {}
            Some(word) if word.eq_ignore_ascii_case(b"TYPE") => {
                subscribed = match arguments.next() {
                    Some(kind) if kind.eq_ignore_ascii_case(b"normal") => Some(false),
                    Some(kind) if kind.eq_ignore_ascii_case(b"pubsub") => Some(true),
                    Some(kind)
                        if [&b"master"[..], b"replica", b"slave"]
                            .iter()
                            .any(|word| kind.eq_ignore_ascii_case(word)) =>
                    {
                        ids = Some(Vec::new());
                        None
                    }
                    Some(kind) => {
                        let error = text::about("Unknown client type ", kind, "");
                        return self.desk.say(index, &error);
                    }
                    None => return self.desk.say(index, text::SYNTAX),
                };
            }
            Some(word) if word.eq_ignore_ascii_case(b"ID") => {
                let number = |id: &[u8]| std::str::from_utf8(id).ok()?.parse().ok();
                let all: Option<Vec<u64>> = arguments.map(number).collect();
                match all {
                    Some(all) if !all.is_empty() => ids = Some(all),
                    Some(_) => return self.desk.say(index, text::SYNTAX),
                    None => return self.desk.say(index, b"-ERR Invalid client ID\r\n"),
                }
            }
            Some(_) => return self.desk.say(index, text::SYNTAX),
        }
        let client = &self.desk.clients[index as usize];
        let pool = client.pool;
        let user = self.banks[client.bank as usize].identity.user.clone();
        let mut lines = Vec::new();
        for other in 0..self.desk.clients.len() as u32 {
            let client = &self.desk.clients[other as usize];
            let named = ids.as_ref().is_none_or(|ids| ids.contains(&client.id));
            let of_kind = subscribed.is_none_or(|wanted| client.is_subscribed() == wanted);
            if client.life == Life::Open
                && client.pool == pool
                && named
                && of_kind
                && self.banks[client.bank as usize].identity.user == user
            {
                lines.extend_from_slice(&self.describe(other));
            }
        }
        self.say_bulk(index, &lines);
    }

    fn tracking_info(&mut self, index: u32) {
        let mut reply = self.desk.spare.take();
        let protocol = if self.desk.clients[index as usize].resp3 {
            tandem_resp::Protocol::Resp3
        } else {
            tandem_resp::Protocol::Resp2
        };
        tandem_resp::write_map_header(3, protocol, &mut reply);
        tandem_resp::write_bulk(b"flags", &mut reply);
        tandem_resp::write_array_header(1, &mut reply);
        tandem_resp::write_bulk(b"off", &mut reply);
        tandem_resp::write_bulk(b"redirect", &mut reply);
        tandem_resp::write_integer(-1, &mut reply);
        tandem_resp::write_bulk(b"prefixes", &mut reply);
        tandem_resp::write_array_header(0, &mut reply);
        self.desk.say(index, &reply);
        self.desk.spare.give(reply);
    }
}
