package daemon

import (
	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
)

// Reload reads the configuration again and takes what can change under a
// running box; no client notices. A configuration with problems changes
// nothing, and is the error. What needs a restart is named, each time anew
// until there was one. Safe for concurrent use.
func (d *Daemon) Reload() (api.Reloaded, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	next, err := d.running.Again()
	if err != nil {
		d.log.Error("configuration refused, the box goes on as it was", "err", err)
		return api.Reloaded{}, err
	}
	done := api.Reloaded{Applied: []string{}, Restart: []string{}}
	for _, key := range config.Changed(d.running, next) {
		apply := d.reloadable(key, next)
		if apply == nil {
			done.Restart = append(done.Restart, key)
			continue
		}
		apply()
		done.Applied = append(done.Applied, key)
	}
	d.log.Info("configuration read again", "applied", done.Applied, "restart", done.Restart)
	return done, nil
}

// reloadable returns how a key of next is put in force, nil if a restart is
// needed for it.
func (d *Daemon) reloadable(key string, next config.Config) func() {
	switch key {
	case "log.level":
		return func() {
			d.level.Set(next.Log.Level)
			d.running.Log.Level = next.Log.Level
		}
	}
	return nil
}
