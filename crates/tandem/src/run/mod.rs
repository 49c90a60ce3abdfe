//! `tandem run`: the shell around the keepers of a host's groups.
//!
//! One thread, one runtime. Each group is a loop ([`group`]) around a [`tandem_core::pair::Pair`]; what
//! the pair orders is carried out by [`steps`], [`front`] and [`vrrp_io`], and every result goes back in as
//! an input. [`server`] watches the local Redis, [`peer`] talks with the other daemon, [`directory`] with
//! clients that ask for the primary, [`control`] with the command line. Nothing here decides who is primary.

pub(crate) mod archive;
mod attend;
mod checks;
mod child;
pub(crate) mod control;
mod directory;
mod drain;
pub(crate) mod duplicate;
pub(crate) mod events;
mod follow;
mod front;
mod group;
mod hooks;
mod journal_file;
mod look;
mod peer;
mod proxy;
mod quiet;
mod reload;
mod seat;
mod server;
mod spawn;
mod steps;
mod streams;
mod vrrp_io;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tandem_config::settings::{self as config, Settings};
use tandem_core::keeper::Input;
use tandem_core::session::Secret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use control::{Answer, ReplyLine};
use follow::Followed;
pub(crate) use group::credentials;
use group::{Event, Group, Sibling};
use proxy::Proxies;
pub(crate) use proxy::cluster_seen;
use seat::Seat;

/// How long a daemon that was told to stop may take to hand its roles over.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The folder of one group below `state_dir`.
pub(crate) fn group_dir(settings: &Settings, group: &str) -> PathBuf {
    settings.host.state_dir.join(group)
}

/// The folder of a keeper's journal: of two keepers of one group each has its own.
pub(crate) fn journal_dir(settings: &Settings, group: &config::Group) -> PathBuf {
    let dir = group_dir(settings, &group.name);
    match group.other() {
        None => dir,
        Some(_) => dir.join(group.server.to_string()),
    }
}

/// The control socket below `state_dir`.
pub(crate) fn control_path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Runs until TERM or INT, or until a group cannot go on.
pub(crate) async fn run(settings: Settings, config_path: PathBuf) -> Result<()> {
    // Clients of the directory are served beside the groups, on the same thread.
    let local = tokio::task::LocalSet::new();
    local.run_until(look_after(settings, config_path)).await
}

async fn look_after(mut settings: Settings, config_path: PathBuf) -> Result<()> {
    prepare_state(&settings)?;
    let secret = read_secret(&settings)?;
    let (peers, incoming) = peer::Peers::start(&settings, secret.clone()).await?;
    let mut heard = incoming.heard;
    let told = directory::Told::here(&settings);
    let port = directory::Port::new(&settings, &config_path, &told, incoming.strangers)?;
    let mut seats: Vec<Seat> = Vec::new();
    let mut running = JoinSet::new();
    // Before any group: an address that a proxy cannot have must not cost a group its primary.
    let mut proxies = Proxies::start(&settings, secret.as_ref(), &told, &mut running)?;
    for group in &settings.groups {
        let places = group.seats();
        let mut channels: Vec<_> = places
            .iter()
            .map(|_| mpsc::channel(group::EVENTS_MAX))
            .collect();
        let mut siblings = match channels.as_slice() {
            [(first, _), (second, _)] => {
                let [to_second, to_first] = Sibling::pair([first.clone(), second.clone()]);
                vec![Some(to_second), Some(to_first)]
            }
            _ => vec![None],
        };
        for ((place, (sender, receiver)), sibling) in places
            .iter()
            .zip(channels.drain(..))
            .zip(siblings.drain(..))
        {
            let shell = Group::open(
                &settings,
                place,
                secret.as_ref(),
                group::Outside {
                    peers: peers.clone(),
                    sibling,
                    told: told.clone(),
                },
                sender.clone(),
                receiver,
            )
            .await
            .with_context(|| format!("group {}", place.seat_name()))?;
            running.spawn(shell.run());
            seats.push(Seat::of(place, sender));
        }
    }
    for follow in &settings.follows {
        let (sender, receiver) = mpsc::channel(group::EVENTS_MAX);
        let shell = Followed::open(&settings, follow, told.clone(), sender.clone(), receiver)
            .with_context(|| format!("group {}", follow.name))?;
        running.spawn_local(shell.run());
        seats.push(Seat::alone(&follow.name, follow.server, sender));
    }
    let servers = seats
        .iter()
        .map(|seat| (seat.server, seat.events.clone()))
        .collect();
    tokio::task::spawn_local(port.run(servers));
    let control_path = control_path(&settings.host.state_dir);
    let (requests, mut reloads) = mpsc::channel(reload::REQUESTS_MAX);
    let reloader = reload::Reloader::new(config_path, requests);
    let observed = proxies.observed();
    let _control = control::serve(&control_path, seats.clone(), reloader.clone(), observed)
        .with_context(|| format!("control socket {}", control_path.display()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut stop_by: Option<Instant> = None;
    // A proxy may end while the daemon goes on.
    while stop_by.is_none() || !running.is_empty() {
        let give_up = async {
            match stop_by {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((group, input)) = heard.recv() => {
                // Peers speak of groups that have one loop on each host.
                if let Some(seat) = seats.iter().find(|seat| seat.name == group) {
                    // A group that is behind loses a statement; the next one says everything again.
                    let _ = seat.events.try_send(Event::Input(input));
                }
            }
            ended = running.join_next(), if !running.is_empty() => match ended {
                None | Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return Err(error),
                // A half-alive owner of an address is the worst state: the process ends at once and the
                // kernel's lifetime takes the address down.
                Some(Err(error)) => bail!("a group's loop ended by itself: {error}"),
            },
            _ = terminate.recv() => stop_by = Some(stop(&seats, &proxies, stop_by)),
            _ = interrupt.recv() => stop_by = Some(stop(&seats, &proxies, stop_by)),
            _ = hangup.recv() => hang_up(&reloader),
            Some(request) = reloads.recv() => {
                take_over(&mut settings, request, &seats, &mut proxies, &mut running);
            }
            () = give_up => bail!("could not stop within {} s", STOP_WITHIN.as_secs()),
        }
    }
    let _ = std::fs::remove_file(&control_path);
    Ok(())
}

fn stop(seats: &[Seat], proxies: &Proxies, already: Option<Instant>) -> Instant {
    proxies.stop();
    for seat in seats {
        let _ = seat.events.try_send(Event::Input(Input::Stop));
    }
    already.unwrap_or_else(|| Instant::now() + STOP_WITHIN)
}

/// HUP: nothing that moves is accepted, and the log has the answers.
fn hang_up(reloader: &reload::Reloader) {
    let reloader = reloader.clone();
    tokio::spawn(async move {
        for (group, line) in reloader.reload(false).await {
            if line.outcome == "done" && group != RESTART {
                tracing::info!("reload: {group}: {}", line.text);
            } else {
                tracing::warn!("reload: {group}: {}", line.text);
            }
        }
    });
}

/// Who answers for what waits for a restart.
const RESTART: &str = "[restart]";

/// Takes a changed file over, as far as it may be; each group answers by itself.
fn take_over(
    settings: &mut Settings,
    request: reload::Request,
    seats: &[Seat],
    proxies: &mut Proxies,
    running: &mut JoinSet<Result<()>>,
) {
    // What could not be taken over last time, or not be started, is not in force.
    settings.proxies = proxies.in_force();
    let plan = reload::plan(settings, &request.new);
    let refused = !plan.moves.is_empty() && !request.accept;
    let mut answers = reload::Answers::new();
    // What changed of a group that is followed waits for a restart, as the plan says.
    let follows = |name: &String| settings.follows.iter().any(|it| it.name == *name);
    for seat in seats.iter().filter(|seat| !follows(&seat.group)) {
        let (answer, answered) = oneshot::channel();
        answers.push((seat.name.clone(), answered));
        let mut places = plan.settings.groups.iter().flat_map(config::Group::seats);
        match places.find(|place| place.seat_name() == seat.name) {
            Some(place) if !refused => {
                let event = Event::Reload(Box::new(place), answer);
                // A loop that is so far behind answers nothing, which is told.
                let _ = seat.events.try_send(event);
            }
            Some(_) | None => {
                let refusal = plan.refusal(&reload::of_group(&seat.group));
                let _ = answer.send(Answer::Reply(refusal));
            }
        }
    }
    answers.extend(change_proxies(settings, &plan, refused, proxies, running));
    if !plan.restart.is_empty() {
        let text = format!(
            "left as it was until a restart of the daemon (tandem switchover first): {}",
            plan.restart.join("; ")
        );
        answers.push((RESTART.to_owned(), answered(ReplyLine::done(text))));
    }
    if !refused {
        *settings = plan.settings;
        proxies.expect(settings);
    }
    // Also if the file is refused: whoever renews certificates does not know of that, and they end one day.
    for (name, certificates) in proxies.certificates() {
        let Some(proxy) = settings.proxies.iter().find(|it| it.name == name) else {
            continue;
        };
        // A few small files, and rarely: no thread of its own.
        let Some(read) = certificates.read_again(&proxy.access) else {
            continue;
        };
        let line = match read {
            Ok(()) => ReplyLine::done("its certificates were read again".to_owned()),
            Err(error) => {
                ReplyLine::failed(format!("its certificates stay as they were: {error:#}"))
            }
        };
        answers.push((reload::of_proxy(name), answered(line)));
    }
    // Whoever asked may have gone.
    let _ = request.answer.send(answers);
}

/// An answer that is there already.
fn answered(line: ReplyLine) -> oneshot::Receiver<Answer> {
    let (answer, answered) = oneshot::channel();
    let _ = answer.send(Answer::Reply(line));
    answered
}

/// Ends proxies that are gone from the file, has the others become what it says, and starts new ones.
fn change_proxies(
    settings: &Settings,
    plan: &reload::Plan,
    refused: bool,
    proxies: &mut Proxies,
    running: &mut JoinSet<Result<()>>,
) -> reload::Answers {
    let mut answers = reload::Answers::new();
    let is_in = |all: &[config::Proxy], name: &str| all.iter().any(|it| it.name == *name);
    for gone in &settings.proxies {
        if !is_in(&plan.settings.proxies, &gone.name) {
            let name = reload::of_proxy(&gone.name);
            let line = match refused {
                true => plan.refusal(&name),
                false => {
                    proxies.end(&gone.name);
                    ReplyLine::done("ends; its clients get what they are owed".to_owned())
                }
            };
            answers.push((name, answered(line)));
        }
    }
    for after in &plan.settings.proxies {
        if settings.proxies.contains(after) {
            continue;
        }
        let name = reload::of_proxy(&after.name);
        if refused {
            answers.push((name.clone(), answered(plan.refusal(&name))));
        } else if is_in(&settings.proxies, &after.name) {
            let (answer, changed) = oneshot::channel();
            answers.push((name, changed));
            proxies.change(proxy::Change {
                settings: after.clone(),
                answer,
            });
        } else {
            let line = match proxies.add(&plan.settings, after, running) {
                Ok(()) => ReplyLine::done("listens".to_owned()),
                Err(error) => ReplyLine::failed(format!("does not start: {error:#}")),
            };
            answers.push((name, answered(line)));
        }
    }
    answers
}

fn prepare_state(settings: &Settings) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // The control socket is there, also on a host that has proxies and no group.
    let dir = &settings.host.state_dir;
    std::fs::create_dir_all(dir).with_context(|| format!("state folder {}", dir.display()))?;
    for name in settings.names() {
        let dir = group_dir(settings, name);
        std::fs::create_dir_all(dir.join("archive"))
            .with_context(|| format!("state folder {}", dir.display()))?;
        // The archive holds data, and the journal decides who is primary: nobody else's business.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("state folder {}", dir.display()))?;
    }
    for group in settings.groups.iter().flat_map(config::Group::seats) {
        let dir = journal_dir(settings, &group);
        std::fs::create_dir_all(&dir).with_context(|| format!("state folder {}", dir.display()))?;
    }
    Ok(())
}

/// The secret that the hosts share, without the line end of its file.
pub(crate) fn read_secret(settings: &Settings) -> Result<Option<Secret>> {
    let Some(path) = &settings.host.secret_file else {
        return Ok(None);
    };
    let bytes = std::fs::read(path).with_context(|| format!("secret_file {}", path.display()))?;
    let secret = bytes.trim_ascii();
    if secret.len() < 16 {
        bail!(
            "secret_file {}: {} bytes are too few for a secret, 16 or more are needed",
            path.display(),
            secret.len()
        );
    }
    Ok(Some(Secret::new(secret.to_vec())))
}
