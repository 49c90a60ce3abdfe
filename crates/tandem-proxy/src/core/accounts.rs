//! The proxy's own users: who a client is, and whether it may ask what it asks.
//!
//! Only clients whose user may not do everything come by here with each request. To the servers all of them are the one
//! user that the settings name.

use super::Core;
use super::client::NO_ACCOUNT;
use super::identity::same;
use super::text;
use crate::command::{self, Command};
use crate::frame::Request;
use crate::settings::{Account, Users};
use crate::users;

impl Core {
    /// Makes a client what it is before it has said who it is.
    pub(super) fn greet(&mut self, index: u32) {
        let client = &self.desk.clients[index as usize];
        let settings = &self.pools[client.pool as usize].setup.settings;
        let (stranger, account) = match &settings.access.users {
            Users::Server | Users::Password => (settings.password.is_some(), None),
            Users::Own(accounts) => {
                let open = accounts
                    .iter()
                    .position(|account| account.password.is_none() && account.is(None));
                (open.is_none(), open)
            }
        };
        self.become_account(index, account);
        let client = &mut self.desk.clients[index as usize];
        client.stranger = stranger;
        client.set_special();
    }

    /// A client is this user of the proxy's own from now on, or none of them.
    pub(super) fn become_account(&mut self, index: u32, account: Option<usize>) {
        let client = &mut self.desk.clients[index as usize];
        client.account = account.map_or(NO_ACCOUNT, |account| account as u16);
        client.restricted = false;
        if let Some(account) = account
            && let Users::Own(accounts) =
                &self.pools[client.pool as usize].setup.settings.access.users
        {
            client.restricted = !accounts[account].user.may_all();
        }
        client.set_special();
    }

    /// The proxy's own user that a client is.
    pub(super) fn account(&self, index: u32) -> Option<&Account> {
        let client = &self.desk.clients[index as usize];
        match &self.pools[client.pool as usize].setup.settings.access.users {
            Users::Own(accounts) => accounts.get(usize::from(client.account)),
            Users::Server | Users::Password => None,
        }
    }

    /// After a reload: the same user of the new pool, while its password is the same.
    pub(super) fn account_in(&self, index: u32, heir: u32) -> Option<usize> {
        let old = self.account(index)?;
        match &self.pools[heir as usize].setup.settings.access.users {
            Users::Own(accounts) => accounts
                .iter()
                .position(|new| new.user.name == old.user.name && new.password == old.password),
            Users::Server | Users::Password => None,
        }
    }

    /// What a client is called.
    pub(super) fn user_name(&self, index: u32) -> &[u8] {
        match self.account(index) {
            Some(account) => account.user.name.as_bytes(),
            None => {
                let bank = self.desk.clients[index as usize].bank;
                self.banks[bank as usize].identity.user_name()
            }
        }
    }

    /// The error for a request that its client may not make.
    pub(super) fn denied(
        &mut self,
        index: u32,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Vec<u8>> {
        let mut tally = std::mem::take(&mut self.tally);
        let (arguments, keys) = tally.index(request);
        let found = command::keys(command, &arguments, keys);
        let verdict = match self.account(index) {
            None => Some(text::NOAUTH.to_vec()),
            // What cannot be looked at is not let through.
            Some(_) if found.is_err() => Some(text::SYNTAX.to_vec()),
            Some(account) => users::may(&account.user, command, &arguments, keys)
                .err()
                .map(|denied| format!("-{}\r\n", denied.reply()).into_bytes()),
        };
        self.tally = tally;
        verdict
    }
}

impl Account {
    /// Whether AUTH means this one; without a name it means the default user.
    pub(super) fn is(&self, name: Option<&[u8]>) -> bool {
        self.user.name.as_bytes() == name.unwrap_or(b"default")
    }

    /// Whether this password lets one in.
    pub(super) fn takes(&self, password: &[u8]) -> bool {
        self.password
            .as_ref()
            .is_none_or(|expected| same(password, expected.as_bytes()))
    }
}
