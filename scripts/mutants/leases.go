package main

// ofLeases each let a token live longer, or do more, than a lease may.
func ofLeases() []mutant {
	return []mutant{
		{
			"lease: while the cloud can be reached",
			[]edit{{
				"auth/lease.go",
				`l.Known.has(device) && l.Down()`,
				`l.Known.has(device)`,
			}},
			authPkg, "TestLease",
		},
		{
			"lease: beyond the grace",
			[]edit{{
				"auth/lease.go",
				`	return end, now.Before(end) &&`,
				`	return end, now.Before(end.Add(time.Second)) &&`,
			}},
			authPkg, "TestLease",
		},
		{
			"lease: the grace counts from each use",
			[]edit{{
				"auth/lease.go",
				`	end = c.Expires.Add(l.Grace)`,
				`	end = now.Add(l.Grace)`,
			}},
			authPkg, "TestLease",
		},
		{
			"lease: a grace of 0 is the default",
			[]edit{{
				"auth/lease.go",
				`	if l.Grace <= 0 || l.Down`,
				`	if l.Grace == 0 {
		l.Grace = 24 * time.Hour
	}
	if l.Down`,
			}},
			authPkg, "TestLeaseNeedsAKnownDevice",
		},
		{
			"lease: for a device that nobody knows",
			[]edit{{
				"auth/lease.go",
				`l.Known.has(device) && l.Down()`,
				`l.Down()`,
			}},
			authPkg, "TestLeaseNeedsAKnownDevice",
		},
		{
			"lease: of an impersonation",
			[]edit{{
				"auth/lease.go",
				` || c.Impersonated ||`,
				` ||`,
			}},
			authPkg, "TestLease",
		},
		{
			"lease: for what is revoked, or another venue's",
			[]edit{{
				"auth/auth.go",
				`		if refusal != nil || !leased ||`,
				`		if (refusal != nil && refusal.Kind == ErrFormat) || !leased ||`,
			}},
			authPkg, "TestLease",
		},
		{
			"lease: with all rights",
			[]edit{{
				"auth/auth.go",
				`less != g.Role {`,
				`less == "" {`,
			}},
			authPkg, "TestNoTokenOutsidePolicy",
		},
		{
			"lease: of a console token",
			[]edit{{
				"auth/auth.go",
				`|| read.Header["kid"] == consoleKey {`,
				`|| read == nil {`,
			}},
			authPkg, "TestConsoleTokens",
		},
		{
			"lease: with no proof but no link",
			[]edit{{
				"uplink/unreachable.go",
				`BrokerDown, NoAnswer, Timeout}`,
				`BrokerDown, NoAnswer, Timeout, Credentials}`,
			}},
			uplinkPkg, "TestUnreachable",
		},
		{
			"lease: by a proof of before",
			[]edit{{
				"uplink/unreachable.go",
				` && st.Failure.At.After(st.Since) &&`,
				` &&`,
			}},
			uplinkPkg, "TestUnreachable",
		},
		{
			"lease: by the end of a link alone",
			[]edit{{
				"uplink/unreachable.go",
				`st.Failure.At.After(st.Since)`,
				`!st.Failure.At.Before(st.Since)`,
			}},
			uplinkPkg, "TestUnreachable",
		},
		{
			"lease: nobody asks the probe",
			[]edit{{
				"daemon/auth.go",
				`return d.uplink != nil && d.uplink.Unreachable()`,
				`return d.uplink != nil`,
			}},
			boxPkg, "TestOfflineLease",
		},
		{
			"lease: on a socket, without a record",
			[]edit{{
				"lan/handshake.go",
				`	if s.useLease(`,
				`	if s.closing.Load() && s.useLease(`,
			}},
			lanPkg, "TestNoLeaseWithoutARecord|TestALeaseIsRecordedAndTold",
		},
		{
			"lease: each use of a client in a loop is written",
			[]edit{{
				"lan/lease.go",
				`	if s.leases.again(who, now) {`,
				`	if s.leases.again(who, now) && via == "http" {`,
			}},
			lanPkg, "TestALeaseInALoop",
		},
		{
			"lease: each address of a network is another use",
			[]edit{{
				"lan/lease.go",
				`[]string{via, networkOf(address), `,
				`[]string{via, address, `,
			}},
			lanPkg, "TestALeaseInALoop",
		},
		{
			"lease: over HTTP, without a record",
			[]edit{{
				"api/server.go",
				`			return grant, s.cfg.Limits.Leased(r.Context(), grant, address)`,
				`			_ = address
			return grant, nil`,
			}},
			apiPkg, "TestLeasesAreRecorded",
		},
		{
			"lease: goes on when the cloud is back",
			[]edit{{
				"lan/revoke.go",
				` || !sess.grant.Lease.IsZero() && !s.allowed(sess)`,
				``,
			}},
			lanPkg, "TestALeaseIsRecordedAndTold",
		},
		{
			"lease: a session keeps rights that were taken",
			[]edit{{
				"lan/revoke.go",
				` && g.Role == sess.grant.Role`,
				` && g.Role != ""`,
			}},
			lanPkg, "TestALeaseThatGivesLess",
		},
		{
			"lease: while online, over clocks and outages",
			[]edit{{
				"auth/lease.go",
				`l.Known.has(device) && l.Down()`,
				`l.Known.has(device)`,
			}},
			daemonPkg, "TestTokensOverClocksAndOutages",
		},
		{
			"lease: a minute longer, over clocks and outages",
			[]edit{{
				"auth/lease.go",
				`now.Before(end) &&`,
				`now.Before(end.Add(time.Minute)) &&`,
			}},
			daemonPkg, "TestTokensOverClocksAndOutages",
		},
		{
			"lease: a grace of 0, over clocks and outages",
			[]edit{{
				"auth/lease.go",
				`	if l.Grace <= 0 || l.Down`,
				`	if l.Grace == 0 {
		l.Grace = time.Hour
	}
	if l.Down`,
			}},
			daemonPkg, "TestTokensOverClocksAndOutages",
		},
		{
			"lease: with all rights, over clocks and outages",
			[]edit{{
				"auth/auth.go",
				`less != g.Role {`,
				`less == "" {`,
			}},
			daemonPkg, "TestTokensOverClocksAndOutages",
		},
		{
			"lease: once logged out, over clocks and outages",
			[]edit{{
				"auth/auth.go",
				`	if refusal == nil && v.logouts.has(token) {`,
				`	if refusal == nil && !expired && v.logouts.has(token) {`,
			}},
			daemonPkg, "TestTokensOverClocksAndOutages",
		},
		{
			"lease: known devices forgotten by no power cut",
			[]edit{{
				"auth/known.go",
				`	clear(k.changed)
`,
				`	clear(k.changed)
	clear(entries)
`,
			}},
			daemonPkg, "TestTokensOverClocksAndOutages",
		},
		{
			"lease: a clock behind what is on disk",
			[]edit{{
				"clock/clock.go",
				`		c.floor = anchor{wall: c.floor.at(r.Up), up: r.Up}
		k.floor = c.floor.wall`,
				`		k.floor = c.floor.at(r.Up)`,
			}},
			clockPkg, "TestNeverBehindWhatIsOnDisk",
		},
	}
}

// ofTime each tell the cloud a time that was not.
func ofTime() []mutant {
	return []mutant{
		{
			"time: put right, and not told",
			[]edit{{
				"clock/clock.go",
				`Time: b.at(e.Clock.Up).UTC()`,
				`Time: e.Time.UTC()`,
			}},
			daemonPkg, "TestTimeComesLate",
		},
		{
			"time: an error too small",
			[]edit{{
				"clock/clock.go",
				`Quality: event.TimeCorrected, Error: b.boundAt(e.Clock.Up)`,
				`Quality: event.TimeCorrected, Error: b.boundAt(b.up) / 1000`,
			}},
			clockPkg, "TestErrorHoldsTheTruth",
		},
		{
			"time: unknown passes for synced",
			[]edit{{
				"clock/clock.go",
				`	return event.Timing{Time: e.Time, Quality: event.TimeUnknown}`,
				`	return event.Timing{Time: e.Time, Quality: event.TimeSynced, Error: time.Second}`,
			}},
			daemonPkg, "TestTimeComesLate",
		},
		{
			"time: no stamp at the append",
			[]edit{{
				"daemon/clock.go",
				`		e.Clock = s.clock.Stamp(e.Time)`,
				`		_ = s.clock.Stamp(e.Time)`,
			}},
			daemonPkg, "TestTimeComesLate",
		},
		{
			"time: a word of the cloud that was known is proof",
			[]edit{{
				"clock/clock.go",
				` && at.After(c.stale):`,
				`:`,
			}},
			clockPkg, "TestHeardBefore",
		},
		{
			"time: the cloud cannot take its word back",
			[]edit{{
				"clock/clock.go",
				`	case c.source == Cloud && at.Before(said)`,
				`	case c.source == Cloud && at.After(said)`,
			}},
			clockPkg, "TestWrongWord",
		},
		{
			"time: a wrong time server is believed",
			[]edit{{
				"clock/clock.go",
				`	case behind > visible: // one`,
				`	case behind > visible && c.source == "": // one`,
			}},
			clockPkg, "TestWrongServer",
		},
		{
			"time: the box follows whoever sets the clock",
			[]edit{{
				"clock/clock.go",
				`	case r.Sync == Unknown && c.source == None:`,
				`	case r.Sync != Synced:`,
			}},
			clockPkg, "TestJumps",
		},
		{
			"time: time runs behind what was kept",
			[]edit{{
				"clock/clock.go",
				`	behind := least.Sub(now)`,
				`	behind := min(0, least.Sub(now))`,
			}},
			clockPkg, "TestNeverBehind",
		},
	}
}
