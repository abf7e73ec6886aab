package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/config"
)

// tryTimeout is how long a new source of keys may take to give them; who reloads
// the configuration waits for it.
const tryTimeout = 7 * time.Second

// keyring follows the sources of token keys that the configuration names, and
// others once that has changed. Safe concurrently.
type keyring struct {
	verifier *auth.Verifier
	cache    string // path of the copy of auth.jwks_url
	changed  func() // called when keys have changed
	log      *slog.Logger
	turning  atomic.Bool // several things are changed, and changed is called after the last

	mu      sync.Mutex // guards below
	asked   config.Auth
	sources []*auth.KeySource
	turned  chan struct{} // closed when there are others
}

// open begins with what the sources left on disk.
func (k *keyring) open(a config.Auth) error {
	fresh, err := k.sourcesOf(a)
	if err != nil {
		return err
	}
	k.follow(a, fresh)
	for _, source := range fresh {
		source.Load()
	}
	return nil
}

func (k *keyring) list() []*auth.KeySource {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sources
}

// sourcesOf returns the sources of a configuration: those of the present one that
// stay, and new ones.
func (k *keyring) sourcesOf(a config.Auth) ([]*auth.KeySource, error) {
	k.mu.Lock()
	old, had := slices.Clone(k.sources), k.asked
	k.mu.Unlock()
	kept := func(name string) *auth.KeySource {
		for _, s := range old {
			if s.Status().Source == name {
				return s
			}
		}
		return nil
	}
	var list []*auth.KeySource
	if a.JWKSFile != "" {
		file := kept("file")
		if file == nil || a.JWKSFile != had.JWKSFile {
			file = auth.NewFileSource(a.JWKSFile, func(name string, keys auth.Keys) { k.trust(file, name, keys) }, k.log)
		}
		list = append(list, file)
	}
	if a.JWKSURL != "" {
		web := kept("url")
		if web == nil || a.JWKSURL != had.JWKSURL {
			var err error
			web, err = auth.NewURLSource(a.JWKSURL, k.cache, func(name string, keys auth.Keys) { k.trust(web, name, keys) }, k.log)
			if err != nil {
				return nil, err
			}
		}
		list = append(list, web)
	}
	return list, nil
}

// trust puts the keys of a source in force, unless another one has taken its
// place.
func (k *keyring) trust(source *auth.KeySource, name string, keys auth.Keys) {
	k.mu.Lock()
	follows := slices.Contains(k.sources, source)
	if follows {
		k.verifier.Trust(name, keys)
	}
	k.mu.Unlock()
	if follows && !k.turning.Load() {
		k.changed()
	}
}

// prepare tries the sources of a configuration that are new, and returns what
// puts them in the place of the present ones; between the two stands what else
// is to change, so that nobody is locked out who has a good token before and
// after. An error changes nothing.
func (k *keyring) prepare(ctx context.Context, a config.Auth) (apply func(between func()), err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	old := k.list()
	fresh, err := k.sourcesOf(a)
	if err != nil {
		return nil, err
	}
	var adopt []func()
	for _, source := range fresh {
		if slices.Contains(old, source) {
			continue
		}
		one, err := source.Try(ctx)
		if err != nil {
			return nil, fmt.Errorf("auth.jwks_%s: gives no keys: %w", source.Status().Source, err)
		}
		adopt = append(adopt, one)
	}
	return func(between func()) {
		k.turning.Store(true)
		k.follow(a, fresh)
		for _, one := range adopt {
			one()
		}
		between()
		for _, source := range old { // last: until here either's keys are good
			name := source.Status().Source
			if !slices.ContainsFunc(fresh, func(s *auth.KeySource) bool { return s.Status().Source == name }) {
				k.verifier.Trust(name, nil)
			}
		}
		k.turning.Store(false)
		k.changed()
	}, nil
}

// follow has Run go on with other sources.
func (k *keyring) follow(a config.Auth, sources []*auth.KeySource) {
	var missed func()
	for _, source := range sources {
		if source.Status().Source == "url" {
			missed = source.Nudge
		}
	}
	k.verifier.OnUnknownKey(missed)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.turned != nil {
		close(k.turned)
	}
	k.asked, k.sources, k.turned = a, sources, make(chan struct{})
}

// Run follows the sources until ctx ends.
func (k *keyring) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		k.mu.Lock()
		sources, turned := k.sources, k.turned
		k.mu.Unlock()
		these, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		for _, source := range sources {
			running.Go(func() { _ = source.Run(these) }) // its failures are in its status
		}
		select {
		case <-ctx.Done():
		case <-turned:
		}
		stop()
		running.Wait()
	}
	return nil
}
