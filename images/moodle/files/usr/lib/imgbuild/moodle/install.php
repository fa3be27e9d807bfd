<?php
// Runs Moodle's own installer in this process: on a command line the administrator's password would be there
// for everybody to see.
//
// Environment: CREDENTIALS_DIRECTORY with moodle.admin.

(static function (): void {
    $values = json_decode(file_get_contents('/usr/share/imgbuild/moodle.json'), true, flags: JSON_THROW_ON_ERROR);
    $installer = '/usr/share/moodle/admin/cli/install_database.php';
    $arguments = [
        $installer,
        '--agree-license',
        "--lang={$values['language']}",
        "--fullname={$values['site_name']}",
        "--shortname={$values['site_short_name']}",
        "--adminuser={$values['admin_user']}",
        '--adminpass=' . rtrim(file_get_contents(getenv('CREDENTIALS_DIRECTORY') . '/moodle.admin'), "\r\n"),
    ];
    if ($values['admin_email'] !== '') {
        $arguments[] = "--adminemail={$values['admin_email']}";
    }
    $_SERVER['argv'] = $arguments;
    $_SERVER['argc'] = count($arguments);
})();

// At the outermost level, as Moodle's scripts expect it.
require '/usr/share/moodle/admin/cli/install_database.php';
