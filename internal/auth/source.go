package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

const (
	maxKeySet     = 256 << 10        // bytes
	fetchTimeout  = 15 * time.Second // of one try
	fetchEvery    = 10 * time.Minute // a tenth more or less
	fetchFirst    = 2 * time.Second  // before the second try; it doubles up to
	fetchLast     = 5 * time.Minute
	fetchOnMiss   = 5 * time.Second // at most that often because of an unknown kid
	lookEvery     = 2 * time.Second // at a file
	keyCacheMode  = 0o600
	maxKeyRedirs  = 3
	sourceOfFile  = "file"
	sourceFromURL = "url"
)

// KeySource keeps the keys of a file, or of a URL, in force: it hands each set
// over as it changes. While a source fails, the keys that it gave last stay.
type KeySource struct {
	name  string // "file" or "url"
	from  string // path or URL
	cache string // path of the copy on disk; empty: none
	trust func(name string, keys Keys)
	log   *slog.Logger

	client *http.Client
	nudge  chan struct{}
	first  time.Duration // fetchFirst
	onMiss time.Duration // fetchOnMiss

	mu     sync.Mutex // guards below
	status SourceStatus
	raw    []byte // of the set in force
}

// SourceStatus says how a source does.
type SourceStatus struct {
	Source  string    `json:"source"` // file or url
	Keys    int       `json:"keys"`   // in force
	At      time.Time `json:"at,omitzero"`
	Failing string    `json:"failing,omitempty"` // why the last try failed; empty: it did not
}

// NewFileSource returns a source that follows a file, which holds a JWK set. It
// is looked at every two seconds. trust is called with each new set.
func NewFileSource(path string, trust func(name string, keys Keys), log *slog.Logger) *KeySource {
	return &KeySource{
		name: sourceOfFile, from: path, trust: trust, log: log,
		status: SourceStatus{Source: sourceOfFile}, nudge: make(chan struct{}, 1),
	}
}

// NewURLSource returns a source that fetches a JWK set from an https:// URL,
// or an http:// one of this machine, every ten minutes, and keeps a copy at the
// path cache, for starts without the internet.
func NewURLSource(from, cache string, trust func(name string, keys Keys), log *slog.Logger) (*KeySource, error) {
	if err := CheckKeyURL(from); err != nil {
		return nil, err
	}
	return &KeySource{
		name: sourceFromURL, from: from, cache: cache, trust: trust, log: log,
		status: SourceStatus{Source: sourceFromURL}, nudge: make(chan struct{}, 1),
		first: fetchFirst, onMiss: fetchOnMiss,
		client: &http.Client{
			Timeout: fetchTimeout,
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if len(via) > maxKeyRedirs {
					return errors.New("too many redirects")
				}
				return CheckKeyURL(r.URL.String())
			},
		},
	}, nil
}

// CheckKeyURL refuses a URL whose answer somebody on the way could change.
func CheckKeyURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return errors.New("is no URL such as https://api.example.com/.well-known/jwks.json")
	}
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !here) {
		return errors.New("does not begin with https://: whoever is on the way could put keys of their own into it")
	}
	return nil
}

// Status returns how the source does. Safe concurrently.
func (s *KeySource) Status() SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Nudge has a URL fetched soon, since a token names a key that nobody knows: it
// may be new. It never blocks.
func (s *KeySource) Nudge() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// Load puts in force what can be had without waiting: the file, or the copy of
// the URL on disk.
func (s *KeySource) Load() {
	if s.name == sourceOfFile {
		s.look()
		return
	}
	raw, err := readKeyCache(s.cache, s.from)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = s.take(raw)
	}
	if err != nil {
		s.log.Warn("copy of the token keys cannot be used", "err", err)
	}
}

// Run follows the source until ctx ends.
func (s *KeySource) Run(ctx context.Context) error {
	if s.name == sourceOfFile {
		return s.follow(ctx)
	}
	wait, pause := time.Duration(0), s.first
	for {
		if !s.await(ctx, wait) {
			return nil
		}
		err := s.fetch(ctx)
		if ctx.Err() == nil { // else it is the end, no failure
			s.note(err)
		}
		if err == nil {
			wait, pause = fetchEvery*9/10+rand.N(fetchEvery/5), s.first //nolint:gosec // jitter
			continue
		}
		// Half of it at random, so that a fleet does not come back as one.
		wait = pause/2 + rand.N(pause/2) //nolint:gosec // jitter
		pause = min(2*pause, fetchLast)
	}
}

// await waits for the next fetch, or less long if a token names an unknown key,
// which anybody can make up; false: ctx ended.
func (s *KeySource) await(ctx context.Context, d time.Duration) bool {
	next, soonest := time.NewTimer(d), time.NewTimer(min(d, s.onMiss))
	defer next.Stop()
	defer soonest.Stop()
	var nudge <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-next.C:
			return true
		case <-soonest.C:
			nudge = s.nudge
		case <-nudge:
			return true
		}
	}
}

// Try reads the file, or asks the URL, once, and puts nothing in force: adopt
// does, and is there if err is nil. So a source that gives nothing usable is found
// out before it takes the place of one that does.
func (s *KeySource) Try(ctx context.Context) (adopt func(), err error) {
	var raw []byte
	if s.name == sourceOfFile {
		raw, err = readKeyFile(s.from)
	} else {
		raw, err = s.get(ctx)
	}
	if err != nil {
		return nil, err
	}
	if _, err := usable(raw); err != nil {
		return nil, err
	}
	return func() { s.note(s.keep(raw)) }, nil
}

// keep puts a set in force, and that of a URL on disk.
func (s *KeySource) keep(raw []byte) error {
	if err := s.take(raw); err != nil || s.name == sourceOfFile {
		return err
	}
	return writeKeyCache(s.cache, s.from, raw)
}

func (s *KeySource) fetch(ctx context.Context) error {
	raw, err := s.get(ctx)
	if err != nil {
		return err
	}
	return s.keep(raw)
}

// get asks the URL.
func (s *KeySource) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.from, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
}

func (s *KeySource) follow(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.look()
		}
	}
}

// look reads the file, whatever its time and size say: whoever installs files from
// an archive or an image may leave both as they were.
func (s *KeySource) look() {
	raw, err := readKeyFile(s.from)
	if err == nil {
		err = s.take(raw)
	}
	s.note(err)
}

// readKeyFile does not believe what everybody on the machine could have written.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("%s can be written by everyone; chmod 0644 it", path)
	}
	return io.ReadAll(io.LimitReader(f, maxKeySet+1))
}

// usable returns the keys of a set. An empty one is taken for a mistake: it would
// lock everybody out.
func usable(raw []byte) (Keys, error) {
	if len(raw) > maxKeySet {
		return nil, fmt.Errorf("the key set has more than %d bytes", maxKeySet)
	}
	keys, err := ParseKeys(raw)
	if err == nil && len(keys) == 0 {
		err = errors.New("the key set holds no key for RS256, ES256 or EdDSA")
	}
	return keys, err
}

// take puts a set in force.
func (s *KeySource) take(raw []byte) error {
	s.mu.Lock()
	same := s.raw != nil && bytes.Equal(s.raw, raw)
	if same {
		s.status.At = time.Now().UTC()
	}
	s.mu.Unlock()
	if same {
		return nil
	}
	keys, err := usable(raw)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.raw, s.status.Keys, s.status.At = raw, len(keys), time.Now().UTC()
	s.mu.Unlock()
	s.trust(s.name, keys)
	return nil
}

// note says once that a source fails, and once that it is well again.
func (s *KeySource) note(err error) {
	s.mu.Lock()
	was := s.status.Failing
	s.status.Failing = ""
	if err != nil {
		s.status.Failing = err.Error()
	}
	is, keys := s.status.Failing, s.status.Keys
	s.mu.Unlock()
	switch {
	case is != "" && was == "":
		s.log.Warn("token keys cannot be read, those in force stay", "source", s.name, "keys", keys, "err", err)
	case is == "" && was != "":
		s.log.Info("token keys are read again", "source", s.name, "keys", keys)
	}
}

// keyCache is the copy on disk. It says where it is from: the keys of a URL that
// was configured before are nobody's.
type keyCache struct {
	URL  string          `json:"url"`
	JWKS json.RawMessage `json:"jwks"`
}

func readKeyCache(path, from string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c keyCache
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if c.URL != from {
		return nil, os.ErrNotExist
	}
	return c.JWKS, nil
}

// writeKeyCache leaves the old copy or the new one whole: new file, fsync,
// rename over.
func writeKeyCache(path, from string, raw []byte) error {
	if old, err := readKeyCache(path, from); err == nil && bytes.Equal(old, compact(raw)) {
		return nil
	}
	body, err := json.Marshal(keyCache{URL: from, JWKS: raw})
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(body)
	if err == nil {
		err = tmp.Chmod(keyCacheMode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// compact returns JSON as [json.Marshal] writes a RawMessage.
func compact(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}
