package daemon

import (
	"context"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
)

// Reload reads the configuration again and takes what can change under a
// running box: the log's level, who may come in (auth), and under what names the
// box may be asked. Nobody is disconnected who is still let in. A configuration
// with problems changes nothing, and is the error; so is one that names a new
// source of keys that gives none, for which it waits some seconds, less if ctx
// ends. What needs a restart is named, each time anew until there was one. Safe
// for concurrent use.
func (d *Daemon) Reload(ctx context.Context) (api.Reloaded, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	refused := func(err error) (api.Reloaded, error) {
		d.log.Error("configuration refused, the box goes on as it was", "err", err)
		return api.Reloaded{}, err
	}
	after := d.inForce()
	next, err := after.Again()
	if err != nil {
		return refused(err)
	}
	changed := config.Changed(after, next)
	var apply []func()
	done := api.Reloaded{Applied: []string{}, Restart: []string{}}
	auth := false
	for _, key := range changed {
		if !atOnce(key) {
			done.Restart = append(done.Restart, key)
			continue
		}
		done.Applied = append(done.Applied, key)
		switch {
		case key == "log.level":
			apply = append(apply, func() {
				d.host.Level.Set(next.Log.Level)
				after.Log.Level = next.Log.Level
			})
		case key == "lan.allowed_hosts":
			apply = append(apply, func() {
				after.LAN.AllowedHosts = next.LAN.AllowedHosts
				d.lan.SetHosts(hosts(after, d.id.Box))
			})
		default:
			auth = true
		}
	}
	if auth {
		one, err := d.prepareAuth(ctx, next.Auth)
		if err != nil {
			return refused(err)
		}
		apply = append(apply, func() {
			one()
			after.Auth = next.Auth
		})
	}
	for _, one := range apply { // nothing can fail any more
		one()
	}
	d.mu.Lock()
	d.running = after
	d.mu.Unlock()
	d.log.Info("configuration read again", "applied", done.Applied, "restart", done.Restart)
	return done, nil
}

// atOnce reports whether a key changes under a running box.
func atOnce(key string) bool {
	return key == "log.level" || key == "lan.allowed_hosts" || strings.HasPrefix(key, "auth.")
}

// inForce is the configuration that the box runs by.
func (d *Daemon) inForce() config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running
}

// prepareAuth returns what puts another way of judging tokens in force, in one
// piece: its keys belong to one another.
func (d *Daemon) prepareAuth(ctx context.Context, a config.Auth) (apply func(), err error) {
	turn, err := d.keys.prepare(ctx, a)
	if err != nil {
		return nil, err
	}
	return func() {
		turn(func() {
			// Its lengths and roles were checked when it was read.
			if err := d.verifier.Change(d.authConfig(a)); err != nil {
				d.log.Error("secrets and lease stay as they were", "err", err)
			}
		})
	}, nil
}
