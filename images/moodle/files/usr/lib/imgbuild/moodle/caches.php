<?php
// Tells this node's Moodle that its caches are in Valkey, through Moodle's own interface, and writes down the
// versions of its code. The result is in memory and made anew at every start, so it always fits the image, and
// the password in it never reaches the shared files.
define('CLI_SCRIPT', true);
require '/usr/share/moodle/config.php';
require_once '/usr/lib/imgbuild/moodle/node.php';

$settings = settings();
$store = [
    'server' => "{$settings['cache_address']}:{$settings['cache_port']}",
    'prefix' => $settings['database_prefix'],
    'password' => $settings['cache_password'],
    'serializer' => Redis::SERIALIZER_IGBINARY,
    'connectiontimeout' => 2,
];

@unlink("{$CFG->altcacheconfigpath}/cacheconfig.php");
\core_cache\factory::reset();
\core_cache\config_writer::create_default_configuration(true);
\core_cache\factory::reset();
$writer = \core_cache\config_writer::instance();
$writer->add_store_instance('valkey', 'redis', $store);
// Sessions' caches go with the session; what lives for one request stays in the process.
$writer->set_mode_mappings([
    \core_cache\store::MODE_APPLICATION => ['valkey'],
    \core_cache\store::MODE_SESSION => ['default_session'],
    \core_cache\store::MODE_REQUEST => ['default_request'],
]);
if (isset($CFG->siteidentifier)) {
    $writer->update_site_identifier($CFG->siteidentifier);
}

file_put_contents(VERSIONS . '.new', core_component::get_all_versions_hash() . "\n");
rename(VERSIONS . '.new', VERSIONS);
