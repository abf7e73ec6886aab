package main

// The packages whose tests must notice that a guard is gone.
const (
	authPkg   = "./internal/auth"
	lanPkg    = "./internal/lan"
	apiPkg    = "./internal/api"
	uplinkPkg = "./internal/uplink"
	clockPkg  = "./internal/clock"
	boxPkg    = "./internal/boxtest"
	daemonPkg = "./internal/daemon"
	foundPkg  = "./internal/discovery"
)

// ofTheGuards each let a token in that must not be.
func ofTheGuards() []mutant {
	return []mutant{
		{
			"guard: the algorithm is the token's to choose",
			[]edit{{
				"auth/auth.go",
				`		jwt.WithValidMethods([]string{hs256, "RS256", "ES256", "EdDSA"}),
`,
				``,
			}, {
				"auth/policy.go",
				`		if ok && k.algorithm == algorithm {`,
				`		if ok {`,
			}},
			authPkg, "TestPublicKeys|TestAttacks",
		},
		{
			"guard: none is an algorithm",
			[]edit{{
				"auth/auth.go",
				`		jwt.WithValidMethods([]string{hs256, "RS256", "ES256", "EdDSA"}),
`,
				``,
			}, {
				"auth/auth.go",
				`	switch {
	case t.Method.Alg() != hs256:`,
				`	switch {
	case t.Method.Alg() == "none":
		return jwt.UnsafeAllowNoneSignatureType, nil
	case t.Method.Alg() != hs256:`,
			}},
			authPkg, "TestPublicKeys|TestAttacks",
		},
		{
			"guard: a public key is a secret, too",
			[]edit{{
				"auth/auth.go",
				`	case len(r.secrets.Keys) == 0:`,
				`	case len(kid) == 2:
		set, _ := v.publicKeys(kid, "EdDSA")
		for i, k := range set.Keys {
			set.Keys[i] = []byte(k.(ed25519.PublicKey))
		}
		return set, nil
	case len(r.secrets.Keys) == 0:`,
			}, {
				"auth/auth.go",
				`	"crypto/rand"
`,
				`	"crypto/ed25519"
	"crypto/rand"
`,
			}},
			authPkg, "TestPublicKeys",
		},
		{
			"guard: any key for an unknown kid",
			[]edit{{
				"auth/policy.go",
				`		k, ok := keys[kid]
`,
				`		k, ok := keys[kid]
		for _, other := range keys {
			if !ok && other.algorithm == algorithm {
				k, ok = other, true
			}
		}
`,
			}},
			authPkg, "TestPublicKeys",
		},
		{
			"guard: kid of the console, signed by the secret",
			[]edit{{
				"auth/auth.go",
				`		return v.console[:], nil`,
				`		return r.secrets, nil`,
			}},
			authPkg, "TestConsoleTokens",
		},
		{
			"guard: crit is passed over",
			[]edit{{
				"auth/auth.go",
				`	if _, ok := t.Header["crit"]; ok {`,
				`	if _, ok := t.Header["crit"]; ok && t.Method == nil {`,
			}},
			authPkg, "TestAttacks",
		},
		{
			"guard: a secret in a key set",
			[]edit{{
				"auth/keys.go",
				`	case j.D != "" || j.K != "":`,
				`	case j.D != "" && j.K != "":`,
			}},
			authPkg, "TestParseKeys",
		},
		{
			"guard: an issuer of somebody else",
			[]edit{{
				"auth/auth.go",
				`		return "token is of another issuer"`,
				`		return ""`,
			}},
			authPkg, "TestIssuersAndAudiences",
		},
		{
			"guard: an audience of somebody else",
			[]edit{{
				"auth/auth.go",
				`		return "token is for another audience"`,
				`		return ""`,
			}},
			authPkg, "TestIssuersAndAudiences",
		},
		{
			"guard: any audience where none is asked for",
			[]edit{{
				"auth/auth.go",
				`		meant = []string{audience}`,
				`		meant = c.Audience`,
			}},
			authPkg, "TestIssuersAndAudiences",
		},
		{
			"guard: tokens of another venue",
			[]edit{{
				"auth/auth.go",
				`	if c.Venue != v.venue {`,
				`	if c.Venue == "pending" {`,
			}},
			authPkg, "TestAttacks",
		},
		{
			"guard: refresh tokens",
			[]edit{{
				"auth/claims.go",
				`	case "refresh", "customer", "consumer":`,
				`	case "customer", "consumer":`,
			}},
			authPkg, "TestAttacks",
		},
		{
			"guard: tokens for the MCP server",
			[]edit{{
				"auth/claims.go",
				`	if slices.Contains(c.Audience, "avoqado-mcp") {`,
				`	if slices.Equal(c.Audience, []string{"avoqado-mcp"}) {`,
			}},
			authPkg, "TestIssuersAndAudiences",
		},
		{
			"guard: an exp beyond all times",
			[]edit{{
				"auth/claims.go",
				`	case err != nil || math.Abs(f) > maxSeconds:`,
				`	case err != nil && math.Abs(f) > maxSeconds:`,
			}},
			authPkg, "TestAttacks",
		},
		{
			"guard: an exp in the year 1 is none",
			[]edit{{
				"auth/claims.go",
				`time.Unix(max(0, int64(math.Floor(f))), 0)`,
				`time.Unix(int64(math.Floor(f)), 0)`,
			}},
			authPkg, "TestAttacks",
		},
		{
			"guard: a key for something else",
			[]edit{{
				"auth/keys.go",
				`!slices.Contains(j.Operations, "verify"):`,
				`slices.Contains(j.Operations, "none"):`,
			}},
			authPkg, "TestKeyOperations",
		},
		{
			"guard: a key for which anybody signs",
			[]edit{{
				"auth/keys.go",
				`	y[31] &= 0x7f`,
				`	y[31] |= 0x80`,
			}},
			authPkg, "TestKeysThatAnybodySignsFor",
		},
		{
			"guard: an impersonation goes on",
			[]edit{{
				"auth/claims.go",
				`	if c.Expires.IsZero() || (!c.Acting.IsZero() && c.Acting.Before(c.Expires)) {`,
				`	if c.Expires.IsZero() {`,
			}},
			authPkg, "TestImpersonationEndsFirst",
		},
		{
			"guard: a token of any length",
			[]edit{{
				"auth/auth.go",
				`	if len(token) > MaxToken {`,
				`	if len(token) > MaxToken<<10 {`,
			}},
			authPkg, "TestLongTokens",
		},
		{
			"guard: the venue's status",
			[]edit{{
				"auth/auth.go",
				`	if !p.operational() && event.Role(c.Role) != event.SuperAdmin {`,
				`	if !p.operational() && !event.Role(c.Role).Known() {`,
			}},
			authPkg, "TestVenueGate",
		},
		{
			"guard: an unknown status of the venue works",
			[]edit{{
				"auth/policy.go",
				`	return p.status == "" ||
`,
				`	return p.status != "SUSPENDED" && p.status != "ADMIN_SUSPENDED" && p.status != "CLOSED" ||
`,
			}},
			authPkg, "TestVenueGate",
		},
		{
			"guard: a revoked token",
			[]edit{{
				"auth/policy.go",
				`	case p.tokens[c.TokenID]:`,
				`	case c.Role == "" && p.tokens[c.TokenID]:`,
			}},
			authPkg, "TestRevocation",
		},
		{
			"guard: a revoked session",
			[]edit{{
				"auth/policy.go",
				`	case p.sessions[c.Session]:`,
				`	case c.Role == "" && p.sessions[c.Session]:`,
			}},
			authPkg, "TestRevocation",
		},
		{
			"guard: a revoked subject",
			[]edit{{
				"auth/policy.go",
				`	case p.everything[c.Subject]:`,
				`	case c.Role == "" && p.everything[c.Subject]:`,
			}},
			authPkg, "TestRevocation",
		},
		{
			"guard: a revoked device",
			[]edit{{
				"auth/policy.go",
				`	case p.revokesDevice(c.Terminal, alias):`,
				`	case c.Role == "" && p.revokesDevice(c.Terminal, alias):`,
			}},
			authPkg, "TestRevocation",
		},
		{
			"guard: a terminal by the back-end's id",
			[]edit{{
				"auth/policy.go",
				`alias != nil && p.devices[alias(serial)]`,
				`alias == nil`,
			}},
			lanPkg, "TestRevokedByTheBackEndsID",
		},
		{
			"guard: revoked up to a time",
			[]edit{{
				"auth/policy.go",
				`	case some && (c.IssuedAt.IsZero() || c.IssuedAt.Before(before)):`,
				`	case some && c.IssuedAt.IsZero() && c.IssuedAt.Before(before.Add(-1000)):`,
			}},
			authPkg, "TestRevocation",
		},
		{
			"guard: keys that everybody on the machine may write",
			[]edit{{
				"auth/source.go",
				`info.Mode().Perm()&0o002 != 0 {`,
				`info.Mode().Perm()&0o002 > 7 {`,
			}},
			authPkg, "TestKeysFromAFile",
		},
		{
			"guard: keys over plain http",
			[]edit{{
				"auth/source.go",
				`	if u.Scheme != "https" && (u.Scheme != "http" || !here) {`,
				`	if u.Scheme != "https" && u.Scheme != "http" && !here {`,
			}},
			authPkg, "TestKeyURLs",
		},
		{
			"guard: the copy of another address's keys",
			[]edit{{
				"auth/source.go",
				`	if c.URL != from {`,
				`	if c.URL == "" {`,
			}},
			authPkg, "TestKeysFromAURL",
		},
		{
			"guard: a set without keys locks everybody out",
			[]edit{{
				"auth/source.go",
				`	if err == nil && len(keys) == 0 {`,
				`	if err == nil && keys == nil {`,
			}},
			authPkg, "TestKeysFromAURL|TestKeysFromAFile",
		},
		{
			"guard: a logout that only the browser knows",
			[]edit{{
				"auth/auth.go",
				`	if refusal == nil && v.logouts.has(token) {`,
				`	if refusal == nil && c.Role == "" && v.logouts.has(token) {`,
			}},
			authPkg, "TestLogout",
		},
		{
			"guard: a logout of one signature",
			[]edit{{
				"auth/lease.go",
				`token[:strings.LastIndexByte(token, '.')]`,
				`token[:len(token)-min(0, strings.LastIndexByte(token, '.'))]`,
			}},
			authPkg, "TestLogoutOfAnySignature",
		},
		{
			"guard: a logout forgotten at a restart",
			[]edit{{
				"auth/logout.go",
				`	if err := l.store.Put(logoutSpace, entries); err != nil {`,
				`	if err := error(nil); err != nil && len(entries) > 0 {`,
			}},
			authPkg, "TestLogout",
		},
	}
}
