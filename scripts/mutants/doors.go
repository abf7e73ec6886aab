package main

// ofTheDoors each leave a door of the box ajar: HTTP, sockets, codes, cards.
func ofTheDoors() []mutant {
	return []mutant{
		{
			"door: sockets of any page",
			[]edit{{
				"lan/http.go",
				`	case !s.originAllowed(r):`,
				`	case !s.originAllowed(r) && r.Method == "":`,
			}},
			lanPkg, "TestOrigins|TestDashboardOrigins",
		},
		{
			"door: any Host",
			[]edit{{
				"lan/http.go",
				`	if !s.hosts.Load().allows(r.Host) {`,
				`	if !s.hosts.Load().allows("") {`,
			}},
			lanPkg, "TestHosts",
		},
		{
			"door: any name with a number",
			[]edit{{
				"lan/hosts.go",
				`	return h[label[:dash]+".local"]`,
				`	return true`,
			}},
			lanPkg, "TestHosts",
		},
		{
			"door: a session from another address",
			[]edit{{
				"lan/http.go",
				`	case !handshake && s.stolen(r, query.Get("sid")):`,
				`	case !handshake && s.stolen(r, ""):`,
			}},
			lanPkg, "TestASessionStaysAtItsAddress",
		},
		{
			"door: a token of another terminal",
			[]edit{{
				"lan/handshake.go",
				`(terminal != "" && !s.terminals.same(terminal, claimed))`,
				`!utf8.ValidString(claimed)`,
			}, {
				"lan/handshake.go",
				`	"strings"
`,
				`	"strings"
	"unicode/utf8"
`,
			}},
			lanPkg, "TestTokenSources",
		},
		{
			"door: the serial of a terminal that has its own token",
			[]edit{{
				"lan/handshake.go",
				`	case g.Terminal == "" && s.verifier.Proven(terminal):`,
				`	case g.Terminal == "" && s.verifier.Proven(""):`,
			}},
			lanPkg, "TestATerminalSpeaksForItself",
		},
		{
			"door: a revoked terminal with another token",
			[]edit{{
				"lan/handshake.go",
				`	case s.verifier.DeviceRevoked(terminal):`,
				`	case s.verifier.DeviceRevoked(g.Terminal):`,
			}},
			lanPkg, "TestRevokedDevices",
		},
		{
			"door: a revoked terminal goes on",
			[]edit{{
				"lan/revoke.go",
				` || s.verifier.DeviceRevoked(sess.terminal) {`,
				` || s.verifier.DeviceRevoked("") {`,
			}},
			lanPkg, "TestRevokedDevices",
		},
		{
			"door: revoked, and goes on",
			[]edit{{
				"lan/revoke.go",
				`	return s.endSessions(func(sess *session) bool { return !s.allowed(sess) })`,
				`	return s.endSessions(func(*session) bool { return false })`,
			}},
			lanPkg, "TestPolicyEndsSessions",
		},
		{
			"door: revoked on the way in",
			[]edit{{
				"lan/session.go",
				`	if sess.verdict != s.verdicts.Load() && !s.allowed(sess) {`,
				`	if sess.verdict > s.verdicts.Load() && !s.allowed(sess) {`,
			}},
			lanPkg, "TestRevokedOnTheWayIn",
		},
		{
			"door: goes on after its token",
			[]edit{{
				"lan/revoke.go",
				`		return s.verifier.Lapsed(sess.grant) || `,
				`		return `,
			}},
			lanPkg, "TestASessionEndsWithItsToken",
		},
		{
			"door: guesses of one address cost nothing",
			[]edit{{
				"lan/limits.go",
				`	return min(maxDelay, firstDelay<<min(over-1, 10)), true, false`,
				`	return 0, true, false`,
			}},
			lanPkg, "TestFailedHandshakes|TestDenied",
		},
		{
			"door: guesses of one address at once",
			[]edit{{
				"lan/limits.go",
				`	if e.delayed >= maxDelayed {`,
				`	if e.delayed < 0 {`,
			}},
			lanPkg, "TestFailedHandshakes|TestDenied",
		},
		{
			"door: guesses for one terminal from many addresses",
			[]edit{{
				"lan/handshake.go",
				`		delay, answer = max(delay, longer), answer && may`,
				`		answer = answer && may || longer > 0`,
			}},
			lanPkg, "TestGuessesForOneTerminal",
		},
		{
			"door: a body that comes after its sender was taken back",
			[]edit{{
				"api/publish.go",
				` && s.stillIn(r, g) != nil {`,
				` && r.Method == "" {`,
			}},
			apiPkg, "TestALateBody",
		},
		{
			"door: many events of who was taken back",
			[]edit{{
				"api/publish.go",
				`		if ctx.Err() == nil || `,
				`		if ctx != nil || `,
			}},
			apiPkg, "TestManyEventsOfWhoIsTakenBack",
		},
		{
			"door: a place for each address of one machine",
			[]edit{{
				"lan/crowd.go",
				`	return c.open[networkOf(host)] >= c.most`,
				`	return c.open[host] >= c.most`,
			}, {
				"lan/crowd.go",
				`	c.open[network]++
	return c.open[network] <= c.most`,
				`	c.open[host]++
	return c.open[host] <= c.most && network != ""`,
			}, {
				"lan/crowd.go",
				`	if c.open[network]--; c.open[network] <= 0 {
		delete(c.open, network)`,
				`	if c.open[host]--; c.open[host] <= 0 && network != "" {
		delete(c.open, host)`,
			}},
			lanPkg, "TestOneMachineOfManyAddresses",
		},
		{
			"door: a payment request from the Redis",
			[]edit{{
				"lan/span/message.go",
				` && row.Shown() && `,
				` && `,
			}},
			"./internal/lan/span", "TestForgedMessages",
		},
		{
			"door: guesses of one machine with many addresses",
			[]edit{{
				"lan/limits.go",
				`a.WithZone("").Prefix(64)`,
				`a.WithZone("").Prefix(128)`,
			}},
			lanPkg, "TestGuessesOfOneNetwork",
		},
		{
			"door: a guess beside an old token is none",
			[]edit{{
				"lan/handshake.go",
				`guess || !ended`,
				`guess && !ended`,
			}},
			lanPkg, "TestAStaleTerminalBesideAGuesser|TestFailedHandshakes",
		},
		{
			"door: a guess beside an old token is none, over HTTP",
			[]edit{{
				"api/server.go",
				`		if noted == nil || !errors.Is(err, auth.ErrExpired) {`,
				`		if noted == nil || errors.Is(err, auth.ErrExpired) {`,
			}},
			apiPkg, "TestAGuessBesideAnOldToken",
		},
		{
			"door: who guesses keeps a stale terminal from being told",
			[]edit{{
				"lan/handshake.go",
				`	case !answer && guess:`,
				`	case !answer:`,
			}},
			lanPkg, "TestAStaleTerminalBesideAGuesser",
		},
		{
			"door: who guesses keeps a stale program from being told",
			[]edit{{
				"lan/httplimits.go",
				`	case !answer && !errors.Is(why, auth.ErrExpired):`,
				`	case !answer && !errors.Is(why, auth.ErrNoToken):`,
			}},
			lanPkg, "TestDenied",
		},
		{
			"door: the result of a payment for who is revoked",
			[]edit{{
				"api/till.go",
				`		ctx, done := s.whileIn(r, g, auth.ErrExpired)
		defer done()
		answer, status := s.cfg.Till.Charge(`,
				`		ctx := r.Context()
		answer, status := s.cfg.Till.Charge(`,
			}},
			apiPkg, "TestALongAnswerEndsWithItsToken",
		},
		{
			"door: the result of a print for who is revoked",
			[]edit{{
				"api/till.go",
				`		ctx, done := s.whileIn(r, g, auth.ErrExpired)
		defer done()
		answer, status := s.cfg.Till.PrintReceipt(`,
				`		ctx := r.Context()
		answer, status := s.cfg.Till.PrintReceipt(`,
			}},
			apiPkg, "TestALongAnswerEndsWithItsToken",
		},
		{
			"door: guesses over HTTP",
			[]edit{{
				"lan/httplimits.go",
				`		s.listener.wait(ctx, delay)`,
				`		s.listener.wait(ctx, 0)`,
			}},
			lanPkg, "TestDenied",
		},
		{
			"door: a bad token over HTTP is not noted",
			[]edit{{
				"api/server.go",
				`	if refusal := s.denied(r, noted); refusal != nil {`,
				`	if refusal := s.denied(r, noted); refusal != nil && r.Method == "" {`,
			}},
			apiPkg, "TestBadTokensAreSlowedDown",
		},
		{
			"door: a wrong code is not noted",
			[]edit{{
				"api/login.go",
				`		if refusal := s.denied(r, errCode); refusal != nil {
			return "", refusal
		}
`,
				``,
			}},
			apiPkg, "TestWrongCodesAreSlowedDown",
		},
		{
			"door: another site's page (CSRF)",
			[]edit{{
				"api/server.go",
				`	case s.foreign.Check(r) != nil:`,
				`	case s.foreign.Check(r) != nil && r.Method == "":`,
			}},
			apiPkg, "TestLogin",
		},
		{
			"door: the operator's routes",
			[]edit{{
				"api/server.go",
				`	case rule == operator:`,
				`	case rule == operator && r.Method == "":`,
			}},
			apiPkg, "TestEveryRouteHasItsAccessRule",
		},
		{
			"door: an office route for a waiter",
			[]edit{{
				"api/server.go",
				`	if rule != staff && !event.MayPublish(grant.Role) {`,
				`	if rule != staff && !grant.Role.Known() {`,
			}},
			apiPkg, "TestEveryRouteHasItsAccessRule|TestRefusalsUseTheTextsOfTheSockets",
		},
		{
			"door: a proxy passes for this machine",
			[]edit{{
				"api/server.go",
				`ip.IsLoopback() && !proxied`,
				`(ip.IsLoopback() || proxied)`,
			}},
			apiPkg, "TestMetricsAnswerThisMachineWithoutAToken",
		},
		{
			"door: a code may be guessed for ever",
			[]edit{{
				"api/login.go",
				`	if c.tries--; ok || c.tries <= 0 {`,
				`	if c.tries--; ok {`,
			}},
			apiPkg, "TestLoginByCode",
		},
		{
			"door: a code is good twice",
			[]edit{{
				"api/login.go",
				`	if c.tries--; ok || c.tries <= 0 {`,
				`	if c.tries--; !ok && c.tries <= 0 {`,
			}},
			apiPkg, "TestLoginByCode",
		},
		{
			"door: a code is good for ever",
			[]edit{{
				"api/login.go",
				`	if c.text == "" || !now.Before(c.ends) {`,
				`	if c.text == "" {`,
			}},
			apiPkg, "TestLoginByCode",
		},
		{
			"door: a page reads the cookie",
			[]edit{{
				"api/login.go",
				`HttpOnly: true,`,
				`HttpOnly: false,`,
			}},
			apiPkg, "TestLogin",
		},
		{
			"door: the cookie goes along from other sites",
			[]edit{{
				"api/login.go",
				`http.SameSiteStrictMode`,
				`http.SameSiteNoneMode`,
			}},
			apiPkg, "TestLogin",
		},
		{
			"door: a token in the address",
			[]edit{{
				"api/login.go",
				`	for _, c := range r.CookiesNamed(tokenCookie) {`,
				`	if q := r.URL.Query().Get("token"); q != "" {
		tokens = append(tokens, q)
	}
	for _, c := range r.CookiesNamed(tokenCookie) {`,
			}},
			apiPkg, "TestTokensFallThrough",
		},
		{
			"door: an answer without an end outlives its token",
			[]edit{{
				"api/long.go",
				`			if err := s.stillIn(r, g); err != nil && !errors.Is(err, forgiven) {`,
				`			if err := s.stillIn(r, g); err != nil && r.Method == "" {`,
			}},
			apiPkg, "TestTailEndsWithItsToken",
		},
		{
			"door: a lease carries on a long answer",
			[]edit{{
				"api/long.go",
				`			case !g.Lease.Equal(was.Lease):`,
				`			case g.Lease.Before(was.Lease):`,
			}},
			apiPkg, "TestTailEndsWithItsToken",
		},
		{
			"door: logging out takes only the cookie away",
			[]edit{{
				"api/login.go",
				`	for _, token := range tokensOf(r) {`,
				`	for _, token := range tokensOf(r)[:0] {`,
			}},
			apiPkg, "TestLogin",
		},
		{
			"door: the sockets of who logged out",
			[]edit{{
				"daemon/parts.go",
				`		l.lan.VerifyAgain()
`,
				`		_ = l.lan
`,
			}},
			boxPkg, "TestLogoutEndsTheToken",
		},
		{
			"door: the operator's socket for everybody",
			[]edit{{
				"api/server.go",
				`	if err := os.Chmod(path, 0o660); err != nil {`,
				`	if err := os.Chmod(path, 0o666); err != nil {`,
			}},
			apiPkg, "TestSocketFile",
		},
		{
			"door: a reload believes in keys it has not seen",
			[]edit{{
				"daemon/keyring.go",
				`		one, err := source.Try(ctx)
		if err != nil {`,
				`		one, err := source.Try(ctx)
		if one == nil {
			one = func() {}
		}
		if err == nil && ctx.Err() != nil {`,
			}},
			boxPkg, "TestReloadOfWhoMayComeIn",
		},
		{
			"door: keys of a source that is not asked any more",
			[]edit{{
				"daemon/keyring.go",
				`				k.verifier.Trust(name, nil)`,
				`				continue`,
			}},
			boxPkg, "TestReloadOfWhoMayComeIn",
		},
		{
			"door: a reload forgets the names",
			[]edit{{
				"daemon/reload.go",
				`				d.lan.SetHosts(hosts(after, d.id.Box))`,
				`				_ = hosts(after, d.id.Box)`,
			}},
			boxPkg, "TestReloadOfWhoMayComeIn",
		},
		{
			"door: who shows the box's card is the box",
			[]edit{{
				"discovery/ask.go",
				`	case !lists(c.Addresses, from):`,
				`	case !lists(c.Addresses, from) && c.Box == "":`,
			}},
			foundPkg, "TestImpostors",
		},
		{
			"door: a card that was recorded holds",
			[]edit{{
				"identity/card.go",
				`	case c.Nonce != nonce:`,
				`	case c.Nonce != nonce && c.Nonce == "":`,
			}},
			foundPkg, "TestImpostors",
		},
	}
}
