package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// belongings are what a role that runs as a user of its own has to own.
type belongings struct {
	// configuration is its file, which stays root's, as does the folder.
	configuration string
	// states are the folders that an init lays out for the role. Only in these
	// everything is given; elsewhere it may be others'.
	states []string
	// folders that the role writes to, made where they miss.
	folders []belonging
	// made are files that the role makes, with others beside them; read are keys.
	made, read []belonging
}

// belonging is a file or folder, and the key of the configuration that names it.
type belonging struct {
	key, path string
	// mode of a folder that misses.
	mode fs.FileMode
}

func gatewayBelongings(cfg *config.Config) belongings {
	b := belongings{
		states: []string{config.SystemStateDir, config.SystemRuntimeDir, cfg.Path("state"), cfg.Path("run")},
		folders: []belonging{
			{"runtime_dir", cfg.RuntimeDir, 0o755},
			{"state_dir", cfg.StateDir, 0o700},
		},
		read: []belonging{{"gateway.management.key", cfg.Gateway.Management.Key, 0}},
	}
	b.addKeys("gateway.identity", cfg.Gateway.Identity.Credentials)
	return b.at(cfg)
}

func serversBelongings(cfg *config.Config) belongings {
	e, m := &cfg.Enrollment, &cfg.Manager
	b := belongings{
		states: []string{
			config.SystemEnrollmentDir, config.SystemManagerDir, config.SystemManagerRuntimeDir, pki.DefaultDir,
			cfg.Path("enrollment"), cfg.Path("manager"), cfg.Path("run"), cfg.Path("pki"),
		},
		folders: []belonging{
			{"manager.runtime_dir", m.RuntimeDir, 0o755},
			{"enrollment.ca.dir", e.CA.Dir, 0o755},
		},
		made: []belonging{
			{"enrollment.key_file", e.KeyFile, 0},
			{"manager.key_file", m.KeyFile, 0},
			{"enrollment.database.sqlite", e.Database.SQLite, 0},
		},
		read: []belonging{
			{"manager.gateways.key", m.Gateways.Key, 0},
			{"enrollment.ca.passphrase_file", e.CA.PassphraseFile, 0},
		},
	}
	b.addKeys("enrollment", e.Credentials)
	b.addKeys("enrollment.admin", e.Admin.Credentials)
	b.addKeys("manager", m.Credentials)
	b.addKeys("manager.admin", m.Admin.Credentials)
	return b.at(cfg)
}

func (b *belongings) addKeys(section string, list []config.Credential) {
	for _, c := range list {
		b.read = append(b.read, belonging{key: section + ".credentials", path: c.Key})
	}
}

// at makes the names paths.
func (b belongings) at(cfg *config.Config) belongings {
	b.configuration = cfg.Name()
	for _, list := range []*[]belonging{&b.folders, &b.made, &b.read} {
		*list = slices.DeleteFunc(*list, func(o belonging) bool { return o.path == "" })
		for i, o := range *list {
			(*list)[i].path = filepath.Clean(cfg.Path(o.path))
		}
	}
	return b
}

// give everything to the user; what is neither root's nor the user's stays whose it
// is. The key of the root CA stays root's.
func (b belongings) give(user string, uid, gid int) error {
	g := giver{uid: uid, gid: gid}
	var errs []error
	for _, o := range b.folders {
		errs = append(errs, b.giveFolder(g, user, o))
	}
	for _, o := range b.made {
		dir := belonging{o.key, filepath.Dir(o.path), 0o700}
		if b.state(dir.path) {
			errs = append(errs, b.giveFolder(g, user, dir))
			continue
		}
		errs = append(errs, b.giveMade(g, user, o))
	}
	for _, o := range b.read {
		errs = append(errs, b.giveFile(g, user, o))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give a role what is its own: %w", err)
	}
	return nil
}

// state: the folder is one that an init lays out for the role, or below it.
func (b belongings) state(dir string) bool {
	return slices.ContainsFunc(b.states, func(state string) bool {
		_, ok := within(state, dir)
		return ok
	})
}

// giveFolder with all that is in it; one elsewhere has to be the role's already.
func (b belongings) giveFolder(g giver, user string, o belonging) error {
	if !b.state(o.path) {
		return b.notRoots(user, o, o.path)
	}
	dir, err := openPath(o.path, o.mode)
	if err != nil {
		return fmt.Errorf("%s: %w", o.key, err)
	}
	defer dir.close()
	if !dir.is(unix.S_IFDIR) {
		return fmt.Errorf("%s: %s: %w", o.key, o.path, unix.ENOTDIR)
	}
	// By a link of root's it may be elsewhere.
	if _, above := within(dir.path, b.configuration); above {
		return hinted{fmt.Errorf("%s: %s has the configuration in it, which stays root's", o.key, dir.path), "Name a folder of its own there."}
	}
	if err := g.tree(dir); err != nil {
		return hinted{fmt.Errorf("%s: %w", o.key, err), "Everything there is for " + user + " alone: move away what isn't, or give it by hand."}
	}
	return nil
}

// notRoots says what root has to do about a folder that can't be given, because
// others' files may be in it.
func (b belongings) notRoots(user string, o belonging, path string) error {
	dir, err := openPath(path, 0)
	if err == nil {
		defer dir.close()
		if dir.Uid != 0 {
			return nil
		}
		err = fmt.Errorf("%s is root's, and not one of the folders that are given to a role: it stays root's", path)
	}
	return hinted{fmt.Errorf("%s: %w", o.key, err),
		fmt.Sprintf("Name a place in %s, or make a folder for it alone: install -d -o %s -m 0700 FOLDER", b.states[0], user)}
}

// giveMade gives a file that the role makes where no folder is given: the file,
// and SQLite's beside it.
func (b belongings) giveMade(g giver, user string, o belonging) error {
	file, err := openFile(o.path)
	if err == nil {
		file.close()
	}
	// A database needs the folder as well; a key that is there doesn't.
	if database := o.key == "enrollment.database.sqlite"; database || err != nil {
		if err := b.notRoots(user, o, filepath.Dir(o.path)); err != nil {
			return err
		}
		if database {
			for _, suffix := range []string{"-wal", "-shm"} {
				if err := b.giveFile(g, user, belonging{key: o.key, path: o.path + suffix}); err != nil {
					return err
				}
			}
		}
	}
	return b.giveFile(g, user, o)
}

// giveFile and nothing beside it.
func (b belongings) giveFile(g giver, user string, o belonging) error {
	file, err := openFile(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the role says what it misses
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.key, err)
	}
	defer file.close()
	switch {
	case file.Uid != 0, file.is(unix.S_IFLNK):
		return nil
	case !file.is(unix.S_IFREG):
		return fmt.Errorf("%s: %s: %w", o.key, o.path, errKind)
	case b.isConfiguration(file):
		return fmt.Errorf("%s: %s is the configuration, which stays root's", o.key, o.path)
	}
	if err := g.one(file); err != nil {
		return hinted{fmt.Errorf("%s: %w", o.key, err), fmt.Sprintf("Copy it to a file of its own, of %s, and name that.", user)}
	}
	return nil
}

func (b belongings) isConfiguration(file *node) bool {
	var of unix.Stat_t
	return unix.Stat(b.configuration, &of) == nil && of.Dev == file.Dev && of.Ino == file.Ino
}
