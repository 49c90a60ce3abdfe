//! Commands and the replies of a real redis-sentinel 7.0.15, kept as a table.

/// Each line is a request and its whole reply; all on one connection of the default user, in this order.
pub(super) const EXCHANGES: &[(&str, &str)] = &[
    ("ping", "+PONG\r\n"),
    ("PING a", "$1\r\na\r\n"),
    (
        "ping a b",
        "-ERR wrong number of arguments for 'ping' command\r\n",
    ),
    (
        "foo",
        "-ERR unknown command 'foo', with args beginning with: \r\n",
    ),
    (
        "foo a b",
        "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n",
    ),
    (
        "sentinel",
        "-ERR wrong number of arguments for 'sentinel' command\r\n",
    ),
    (
        "sentinel foo",
        "-ERR unknown subcommand 'foo'. Try SENTINEL HELP.\r\n",
    ),
    (
        "sentinel master",
        "-ERR wrong number of arguments for 'sentinel|master' command\r\n",
    ),
    (
        "sentinel|masters",
        "-ERR unknown command 'sentinel|masters', with args beginning with: \r\n",
    ),
    (
        "client",
        "-ERR wrong number of arguments for 'client' command\r\n",
    ),
    (
        "client foo x",
        "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n",
    ),
    ("client id", ":1\r\n"),
    ("client list type foo", "-ERR Unknown client type 'foo'\r\n"),
    ("client list id x", "-ERR Invalid client ID\r\n"),
    ("client list id 5000", "$0\r\n\r\n"),
    ("client list foo", "-ERR syntax error\r\n"),
    ("client kill 1:2", "-ERR No such client\r\n"),
    (
        "client kill id 0",
        "-ERR client-id should be greater than 0\r\n",
    ),
    (
        "client kill id x",
        "-ERR client-id should be greater than 0\r\n",
    ),
    ("client kill type foo", "-ERR Unknown client type 'foo'\r\n"),
    ("client kill user foo", "-ERR No such user 'foo'\r\n"),
    ("client kill skipme maybe", "-ERR syntax error\r\n"),
    ("client kill foo bar", "-ERR syntax error\r\n"),
    ("client kill id 99999", ":0\r\n"),
    ("client getname", "$-1\r\n"),
    (
        "client setname a\u{1}",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
    ),
    ("client setname a", "+OK\r\n"),
    ("client getname", "$1\r\na\r\n"),
    ("client no-evict foo", "-ERR syntax error\r\n"),
    ("client no-evict on", "+OK\r\n"),
    (
        "client pause x",
        "-ERR timeout is not an integer or out of range\r\n",
    ),
    ("client pause -1", "-ERR timeout is negative\r\n"),
    (
        "client pause 1 foo",
        "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n",
    ),
    (
        "client pause 1 all x",
        "-ERR unknown subcommand or wrong number of arguments for 'pause'. Try CLIENT HELP.\r\n",
    ),
    ("client unpause", "+OK\r\n"),
    (
        "client unblock x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    (
        "client unblock 1 foo",
        "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n",
    ),
    ("client unblock 1", ":0\r\n"),
    ("client reply foo", "-ERR syntax error\r\n"),
    ("client getredir", ":-1\r\n"),
    (
        "client trackinginfo",
        "*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
    ),
    (
        "client caching yes",
        "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled\r\n",
    ),
    ("client tracking foo", "-ERR syntax error\r\n"),
    (
        "client tracking on prefix a",
        "-ERR PREFIX option requires BCAST mode to be enabled\r\n",
    ),
    (
        "client tracking on bcast optin",
        "-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n",
    ),
    (
        "client tracking on optin optout",
        "-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n",
    ),
    (
        "client tracking on redirect 9999",
        "-ERR The client ID you want redirect to does not exist\r\n",
    ),
    (
        "client tracking on redirect x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    ("client tracking on optin", "+OK\r\n"),
    (
        "client tracking on bcast",
        "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
         different mode.\r\n",
    ),
    (
        "client tracking on optout",
        "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
         different mode.\r\n",
    ),
    (
        "client caching no",
        "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n",
    ),
    ("client caching yes", "+OK\r\n"),
    (
        "client trackinginfo",
        "*6\r\n$5\r\nflags\r\n*3\r\n$2\r\non\r\n$5\r\noptin\r\n$11\r\ncaching-yes\r\n$8\r\nredirect\r\n:0\r\n\
         $8\r\nprefixes\r\n*0\r\n",
    ),
    ("client getredir", ":0\r\n"),
    ("client tracking off", "+OK\r\n"),
    ("command count", ":15\r\n"),
    (
        "command getkeys ping",
        "-ERR wrong number of arguments for 'command|getkeys' command\r\n",
    ),
    (
        "command getkeys sentinel foo",
        "-ERR Invalid command specified\r\n",
    ),
    ("command list filterby foo x", "-ERR syntax error\r\n"),
    ("command list filterby aclcat foo", "*0\r\n"),
    (
        "command list filterby pattern *PUB*",
        "*1\r\n$7\r\npublish\r\n",
    ),
    ("command docs foo", "*0\r\n"),
    (
        "command info foo ping",
        "*2\r\n$-1\r\n*10\r\n$4\r\nping\r\n:-1\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*2\r\n+@fast\r\n+@connection\r\n*2\r\n\
         $25\r\nrequest_policy:all_shards\r\n$29\r\nresponse_policy:all_succeeded\r\n*0\r\n*0\r\n",
    ),
    (
        "command info client|id",
        "*1\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n*3\r\n+noscript\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n*2\r\n+@slow\r\n\
         +@connection\r\n*0\r\n*0\r\n*0\r\n",
    ),
    ("hello 4", "-NOPROTO unsupported protocol version\r\n"),
    (
        "hello x",
        "-ERR Protocol version is not an integer or out of range\r\n",
    ),
    ("hello 2 foo", "-ERR Syntax error in HELLO option 'foo'\r\n"),
    (
        "hello 2 setname",
        "-ERR Syntax error in HELLO option 'setname'\r\n",
    ),
    (
        "hello 2",
        "*12\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n",
    ),
    (
        "auth x",
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration \
         is correct?\r\n",
    ),
    ("auth a b c", "-ERR syntax error\r\n"),
    ("auth default x", "+OK\r\n"),
    (
        "auth foo bar",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    ),
    ("acl whoami", "$7\r\ndefault\r\n"),
    ("acl users", "*1\r\n$7\r\ndefault\r\n"),
    (
        "acl list",
        "*1\r\n$34\r\nuser default on nopass ~* &* +@all\r\n",
    ),
    ("acl getuser foo", "$-1\r\n"),
    (
        "acl deluser default",
        "-ERR The 'default' user cannot be removed\r\n",
    ),
    ("acl deluser foo", ":0\r\n"),
    ("acl cat foo", "-ERR Unknown category 'foo'\r\n"),
    (
        "acl cat a b",
        "-ERR unknown subcommand or wrong number of arguments for 'cat'. Try ACL HELP.\r\n",
    ),
    (
        "acl genpass x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    (
        "acl genpass 4097",
        "-ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096\r\n",
    ),
    (
        "acl log x",
        "-ERR value is not an integer or out of range\r\n",
    ),
    ("acl log reset", "+OK\r\n"),
    ("acl log", "*0\r\n"),
    ("acl dryrun foo ping", "-ERR User 'foo' not found\r\n"),
    ("acl dryrun default foo", "-ERR Command 'foo' not found\r\n"),
    (
        "acl dryrun default sentinel master",
        "-ERR wrong number of arguments for 'sentinel|master' command\r\n",
    ),
    ("acl dryrun default ping", "+OK\r\n"),
    ("acl setuser bob", "+OK\r\n"),
    (
        "acl list",
        "*2\r\n$32\r\nuser bob off resetchannels -@all\r\n$34\r\nuser default on nopass ~* &* +@all\r\n",
    ),
    (
        "acl setuser bob on nopass +ping +client|id +subscribe +psubscribe +publish +acl &ok*",
        "+OK\r\n",
    ),
    (
        "acl dryrun bob publish x y",
        "$54\r\nThis user has no permissions to access the 'x' channel\r\n",
    ),
    (
        "acl dryrun bob role",
        "$54\r\nThis user has no permissions to run the 'role' command\r\n",
    ),
    (
        "acl dryrun bob sentinel foo",
        "-ERR Command 'sentinel' not found\r\n",
    ),
    // From here on as bob.
    ("auth bob x", "+OK\r\n"),
    (
        "role",
        "-NOPERM this user has no permissions to run the 'role' command\r\n",
    ),
    (
        "sentinel masters",
        "-NOPERM this user has no permissions to run the 'sentinel|masters' command\r\n",
    ),
    (
        "subscribe x",
        "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n",
    ),
    (
        "psubscribe ok?",
        "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n",
    ),
    (
        "psubscribe ok*",
        "*3\r\n$10\r\npsubscribe\r\n$3\r\nok*\r\n:1\r\n",
    ),
    (
        "subscribe okay",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nokay\r\n:2\r\n",
    ),
    (
        "publish ok y",
        "-ERR Can't execute 'publish': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context\r\n",
    ),
    ("ping", "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    (
        "client id",
        "-ERR Can't execute 'client|id': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context\r\n",
    ),
    (
        "unsubscribe",
        "-NOPERM this user has no permissions to run the 'unsubscribe' command\r\n",
    ),
];
