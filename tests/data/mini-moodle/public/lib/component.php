<?php
declare(strict_types=1);

/** What code there is. */
final class core_component
{
    public static function version(): string
    {
        $version = null;
        require dirname(__DIR__) . '/version.php';
        return (string) $version;
    }

    public static function get_all_versions_hash(): string
    {
        return sha1(self::version());
    }
}

function moodle_needs_upgrading(database $database): bool
{
    return $database->setting('allversionshash') !== core_component::get_all_versions_hash();
}
