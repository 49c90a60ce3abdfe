//! Questions of clients and of other sentinels, as far as they concern the protocol between sentinels.

use tandem_resp::Value;

use crate::sentinel::events::Kind;
use crate::sentinel::ids::{ElectionEpoch, Endpoint, GroupName, SentinelId};
use crate::sentinel::io::{Event, Output, RequestId, ScriptEnd, ScriptId};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::manual::CannotFailOver;
use crate::sentinel::model::GroupId;

impl Sentinel {
    pub(super) fn asked_sentinel(&mut self, request: RequestId, args: &[Vec<u8>]) {
        let text = |index: usize| -> Option<&str> { std::str::from_utf8(args.get(index)?).ok() };
        let name = text(0).unwrap_or_default().to_ascii_lowercase();
        let value = match name.as_str() {
            "tandem" => Value::Array(vec![
                Value::Bulk(b"tandem".to_vec()),
                Value::Bulk(self.id.as_str().as_bytes().to_vec()),
            ]),
            "is-master-down-by-addr" => {
                let port = text(2).and_then(|port| port.parse().ok());
                let epoch = text(3).and_then(|epoch| epoch.parse().ok());
                if let (Some(host), Some(port), Some(epoch), Some(id)) =
                    (text(1), port, epoch, text(4))
                {
                    let candidate = SentinelId::parse(id);
                    let at = Endpoint::new(host, port);
                    self.opinion_asked(request, &at, ElectionEpoch(epoch), candidate.as_ref());
                    return;
                }
                Value::Error(b"ERR value is not an integer or out of range".to_vec())
            }
            "get-master-addr-by-name" => {
                let group = text(1)
                    .and_then(|name| self.names.get(&GroupName(name.to_owned())))
                    .and_then(|id| self.groups.get(id));
                match group {
                    Some(group) => {
                        let at = self.announce().endpoint(group.current_address());
                        Value::Array(vec![
                            Value::Bulk(at.host.into_bytes()),
                            Value::Bulk(at.port.to_string().into_bytes()),
                        ])
                    }
                    None => Value::Null,
                }
            }
            "failover" => {
                let id =
                    text(1).and_then(|name| self.names.get(&GroupName(name.to_owned())).copied());
                match id.map(|id| self.force_failover(id)) {
                    Some(Ok(())) => Value::Simple(b"OK".to_vec()),
                    Some(Err(CannotFailOver::InProgress)) => {
                        Value::Error(b"INPROG Failover already in progress".to_vec())
                    }
                    Some(Err(CannotFailOver::NoGoodReplica)) => {
                        Value::Error(b"NOGOODSLAVE No suitable replica to promote".to_vec())
                    }
                    None => Value::Error(b"ERR No such master with that name".to_vec()),
                }
            }
            _ => Value::Error(b"ERR unknown subcommand".to_vec()),
        };
        self.out.push(Output::Answer { request, value });
    }

    pub(super) fn asked_role(&mut self, request: RequestId) {
        let names = self.names.keys();
        let names = names.map(|name| Value::Bulk(name.0.clone().into_bytes()));
        let value = Value::Array(vec![
            Value::Bulk(b"sentinel".to_vec()),
            Value::Array(names.collect()),
        ]);
        self.out.push(Output::Answer { request, value });
    }

    pub(super) fn asked_info(&mut self, request: RequestId) {
        let text = format!("# Sentinel\r\nsentinel_masters:{}\r\n", self.groups.len());
        let value = Value::Bulk(text.into_bytes());
        self.out.push(Output::Answer { request, value });
    }

    pub(super) fn name_resolved(&mut self, host: String, result: Result<std::net::IpAddr, String>) {
        if let Ok(address) = result {
            self.resolved.insert(host, address);
        }
    }

    pub(super) fn run_notification(&mut self, _id: GroupId, _event: &Event) {}

    pub(super) fn run_reconfiguration(
        &mut self,
        _id: GroupId,
        _role: &str,
        _from: &Endpoint,
        _to: &Endpoint,
    ) {
    }

    pub(super) fn script_started(&mut self, _script: ScriptId, _pid: u32) {}

    pub(super) fn script_ended(&mut self, _script: ScriptId, _end: ScriptEnd) {
        let _ = Kind::MinusScriptError;
    }

    pub(super) fn scripts_due(&mut self) {}
}
