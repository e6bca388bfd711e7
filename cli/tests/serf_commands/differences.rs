//! Where Serf's command line says something else of a kvgossip agent than of a Serf agent, and why.
//!
//! `docs/from-serf.md` has the same list in short.

/// Lines that one of both says and the other does not.
pub(crate) struct Difference {
    /// The commands, as [`crate::transcript::Step::name`] has them.
    pub(crate) steps: &'static [&'static str],
    /// Of Serf's agent.
    pub(crate) serf: &'static [&'static str],
    /// Of kvgossip's agent.
    pub(crate) kvgossip: &'static [&'static str],
    pub(crate) why: &'static str,
}

impl Difference {
    pub(crate) fn is_of(&self, step: &str) -> bool {
        self.steps.contains(&step)
    }
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        steps: &["join nowhere.invalid"],
        serf: &["\t* Failed to resolve nowhere.invalid", "Error joining the cluster: 1 error occurred:"],
        kvgossip: &["Error joining the cluster: cannot join: nowhere.invalid"],
        why: "the same in one line, in the words of the machine's resolver",
    },
    Difference {
        steps: &["join 127.0.0.9:1"],
        serf: &[
            "\t* Failed to join 127.0.0.9: dial tcp 127.0.0.9:1: connect: connection refused",
            "Error joining the cluster: 1 error occurred:",
        ],
        kvgossip: &["Error joining the cluster: cannot join: 127.0.0.9:1: Connection refused (os error 111)"],
        why: "the same in one line, in the words of the operating system",
    },
    Difference {
        steps: &["join 127.0.0.9:999999"],
        serf: &[
            "\t* Failed to resolve 127.0.0.9:999999: strconv.ParseUint: parsing \"999999\": value out of range",
            "Error joining the cluster: 1 error occurred:",
        ],
        kvgossip: &[
            "Error joining the cluster: cannot join: 127.0.0.9:999999: this is no address: write HOST or HOST:PORT",
        ],
        why: "it says what to write",
    },
    Difference {
        steps: &["members -name (", "members -status (", "members -tag role=("],
        serf: &["Error retrieving members: client closed"],
        kvgossip: &["Error retrieving members: Failed to compile regex: \"(\""],
        why: "a Serf agent means to say the same, but closes the connection before the client has read it",
    },
    Difference {
        steps: &["query -timeout=2s -tag role=( uptime"],
        serf: &["Query 'uptime' dispatched", "Total Acks: 0", "Total Responses: 0", "exit 0"],
        kvgossip: &["Error sending query: \"(\" is not a regular expression", "exit 1"],
        why: "nobody can answer such a query, so it is refused; a Serf agent sends it",
    },
    Difference {
        steps: &["query -timeout=-1s uptime"],
        serf: &["Query 'uptime' dispatched", "Total Acks: 0", "Total Responses: 0", "exit 0"],
        kvgossip: &["Error sending query: the request cannot be read: integer out of range", "exit 1"],
        why: "a query that has ended before it begins is refused; a Serf agent sends it",
    },
    Difference {
        steps: &["force-leave nobody", "force-leave -prune nobody"],
        serf: &["exit 0"],
        kvgossip: &["Error force leaving: no member is named \"nobody\"", "exit 1"],
        why: "a name that nobody has is a mistake; a Serf agent says nothing",
    },
    Difference {
        steps: &["keys -install short"],
        serf: &["Error installing key: illegal base64 data at input byte 4"],
        kvgossip: &["Error installing key: the key is not base64"],
        why: "other words",
    },
    Difference {
        steps: &["keys -install MTIz"],
        serf: &[
            "Error installing key: 3/3 nodes reported failure",
            "failed: ours a key is 16, 24 or 32 bytes, not 3",
            "failed: theirs key size must be 16, 24 or 32 bytes",
            "failed: third key size must be 16, 24 or 32 bytes",
        ],
        kvgossip: &["Error installing key: a key is 16, 24 or 32 bytes, not 3"],
        why: "a Serf agent asks all members to install what no member can; this one refuses it itself",
    },
    Difference {
        steps: &["keys -rpc-auth=let-me-in -list"],
        serf: &["failed: locked1 Keyring is empty (encryption not enabled)"],
        kvgossip: &["failed: locked2 encryption is off: the keyring is empty"],
        why: "other words",
    },
    Difference {
        steps: &["keys -rpc-auth=let-me-in -install CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="],
        serf: &["failed: locked1 No keyring to modify (encryption not enabled)"],
        kvgossip: &["failed: locked2 encryption is off: the keyring is empty"],
        why: "other words",
    },
    Difference {
        steps: &["event long xxxxxxxxxxxx...(480)"],
        serf: &[
            "Error sending event: encoded user event exceeds configured limit of 512 bytes after encoding",
        ],
        kvgossip: &["Error sending event: the event, encoded, takes 514 bytes, 512 are allowed"],
        why: "the same limit, with the length",
    },
    Difference {
        steps: &["event long xxxxxxxxxxxx...(600)"],
        serf: &["Error sending event: user event exceeds configured limit of 512 bytes before encoding"],
        kvgossip: &["Error sending event: the event takes 604 bytes, 512 are allowed"],
        why: "the same limit, with the length",
    },
    Difference {
        steps: &["event long xxxxxxxxxxxx...(2000)"],
        serf: &["Error sending event: user event exceeds configured limit of 512 bytes before encoding"],
        kvgossip: &["Error sending event: the event takes 2004 bytes, 512 are allowed"],
        why: "the same limit, with the length",
    },
    Difference {
        steps: &["query -timeout=2s long xxxxxxxxxxxx...(1100)"],
        serf: &["Error sending query: query exceeds limit of 1024 bytes"],
        kvgossip: &["Error sending query: the query takes 1214 bytes, 1024 are allowed"],
        why: "the same limit, with the length",
    },
    Difference {
        steps: &["tags -set long=xxxxxxx...(605)"],
        serf: &["Error setting tags: Encoded length of tags exceeds limit of 512 bytes"],
        kvgossip: &["Error setting tags: the tags take 748 bytes, 512 are allowed"],
        why: "the same limit, with the length",
    },
    Difference {
        steps: &["info"],
        serf: &["\tgoroutines = N", "\tmax_procs = N", "\tversion = goN"],
        kvgossip: &[
            "\tcluster = ID",
            "\tkvg_cluster = ID",
            "\tkvg_id = ID",
            "\tkvg_port = N",
            "\tkvgossip = 2",
            "\treplica = ID",
            "\troot = ID",
            "\tversion = N",
            "kvgossip:",
        ],
        why: "this is no Go program, and it has a section and tags of its own",
    },
    Difference {
        steps: &["info -format json"],
        serf: &[".runtime.goroutines = \"N\"", ".runtime.max_procs = \"N\"", ".runtime.version = \"goN\""],
        kvgossip: &[
            ".kvgossip.cluster = \"ID\"",
            ".kvgossip.replica = \"ID\"",
            ".kvgossip.root = \"ID\"",
            ".kvgossip.version = \"N\"",
            ".tags.kvg_cluster = \"ID\"",
            ".tags.kvg_id = \"ID\"",
            ".tags.kvg_port = \"N\"",
            ".tags.kvgossip = \"2\"",
        ],
        why: "this is no Go program, and it has a section and tags of its own",
    },
];
