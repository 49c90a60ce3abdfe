//! From `[[proxy]]` to what the proxy's threads need: users with their passwords, certificates, sockets.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tandem_config::settings::{self as config, ClientTls, ServerTls};
use tandem_proxy::settings::{Access, Account, Address, Users};
use tandem_proxy::tls::{Acceptor, Connector, Live};
use tandem_proxy::users::{Allowed, KeyRule, User};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::super::group::password;
use crate::tls::{
    AuthClients, Authorities, ClientFiles, Names, Offer, Pair, ServerFiles, client_config,
    server_config,
};

/// The certificates of one proxy: where new connections look.
#[derive(Debug, Clone)]
pub(in crate::run) struct Certificates {
    tls: Option<Acceptor>,
    server_tls: Option<Connector>,
}

impl Certificates {
    /// Reads all files.
    ///
    /// # Errors
    /// One is missing or wrong.
    pub(super) fn read(proxy: &config::Proxy) -> Result<Self> {
        let tls = proxy.access.tls.as_ref();
        let tls = tls.map(|files| listening(files).map(Live::new));
        let server_tls = proxy.access.server_tls.as_ref().map(|files| {
            anyhow::Ok(Connector {
                config: Live::new(connecting(files)?),
                name: server_name(files)?,
            })
        });
        Ok(Self {
            tls: tls.transpose()?,
            server_tls: server_tls.transpose()?,
        })
    }

    /// Reads them again, from the files that are named now: connections that begin from now on use what is in them.
    /// None: this proxy has none.
    ///
    /// # Errors
    /// One is missing or wrong; what was there stays in use.
    pub(in crate::run) fn read_again(&self, of: &config::Access) -> Option<Result<()>> {
        if self.tls.is_none() && self.server_tls.is_none() {
            return None;
        }
        Some(self.replace(of))
    }

    fn replace(&self, of: &config::Access) -> Result<()> {
        let tls = self.tls.as_ref().zip(of.tls.as_ref());
        let tls = tls.map(|(acceptor, files)| anyhow::Ok((acceptor, listening(files)?)));
        let server_tls = self.server_tls.as_ref().zip(of.server_tls.as_ref());
        let server_tls =
            server_tls.map(|(connector, files)| anyhow::Ok((connector, connecting(files)?)));
        // All or nothing.
        let (tls, server_tls) = (tls.transpose()?, server_tls.transpose()?);
        if let Some((acceptor, config)) = tls {
            acceptor.replace(config);
        }
        if let Some((connector, config)) = server_tls {
            connector.config.replace(config);
        }
        Ok(())
    }

    /// For connections to servers.
    pub(super) fn connector(&self) -> Option<Connector> {
        self.server_tls.clone()
    }
}

fn pair((certificate, key): (&Path, &Path)) -> Pair {
    Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        passphrase: None,
    }
}

fn authorities(file: Option<&Path>) -> Authorities {
    Authorities {
        file: file.map(Path::to_owned),
        folder: None,
    }
}

fn listening(files: &ClientTls) -> Result<Arc<ServerConfig>> {
    let asks = files.client_ca_file.is_some();
    server_config(&ServerFiles {
        pair: pair((&files.cert_file, &files.key_file)),
        authorities: authorities(files.client_ca_file.as_deref()),
        auth_clients: if asks {
            AuthClients::Yes
        } else {
            AuthClients::No
        },
        offer: Offer::default(),
    })
    .context("[proxy.tls]")
}

fn connecting(files: &ServerTls) -> Result<Arc<ClientConfig>> {
    let identity = files.identity.as_ref();
    let names = match files.server_name {
        Some(_) => Names::Given,
        None => Names::Any,
    };
    let files = ClientFiles {
        pair: identity.map(|(certificate, key)| pair((certificate, key))),
        authorities: authorities(Some(&files.ca_file)),
        offer: Offer::default(),
    };
    client_config(&files, names).context("[proxy.server_tls]")
}

fn server_name(files: &ServerTls) -> Result<ServerName<'static>> {
    // Without one it is looked at by nobody.
    let name = files.server_name.clone();
    let name = name.unwrap_or_else(|| "server.invalid".to_owned());
    ServerName::try_from(name).context("[proxy.server_tls] server_name is no name")
}

/// Everything of it, with what is in the files.
///
/// # Errors
/// A password cannot be read, or is no text.
pub(super) fn access(proxy: &config::Proxy, certificates: &Certificates) -> Result<Access> {
    let of = &proxy.access;
    let users: Result<Vec<Account>> = of.users.iter().map(account).collect();
    Ok(Access {
        users: match users? {
            users if users.is_empty() => Users::Server,
            users => Users::Own(users),
        },
        tls: certificates.tls.clone(),
        server_tls: certificates.connector(),
        server_user: of.server_user.clone(),
        socket: of.unix_socket.clone().map(|path| Address::Unix {
            path,
            mode: Some(of.unix_socket_mode),
        }),
        client_timeout: of.client_timeout,
    })
}

fn account(of: &config::Account) -> Result<Account> {
    let rule = |prefix: &String, write| KeyRule {
        prefix: prefix.clone().into_bytes(),
        write,
    };
    let written = of.keys.iter().map(|prefix| rule(prefix, true));
    let read = of.read_keys.iter().map(|prefix| rule(prefix, false));
    Ok(Account {
        user: User {
            name: of.name.clone(),
            commands: Allowed::from_rules(of.commands.iter().map(String::as_str))?,
            keys: written.chain(read).collect(),
            channels: of
                .channels
                .iter()
                .map(|it| it.clone().into_bytes())
                .collect(),
        },
        password: of.password_file.as_deref().map(text).transpose()?,
    })
}

/// A password, which has to be text.
pub(super) fn text(path: &Path) -> Result<String> {
    String::from_utf8(password(path)?)
        .with_context(|| format!("password_file {}: the password is no text", path.display()))
}
