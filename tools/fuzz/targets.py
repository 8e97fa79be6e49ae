"""All targets by their names."""

from tools.fuzz import archives, pictures, tables, workdirs

TARGETS = {
    target.name: target
    for target in (
        *pictures.TARGETS,
        *archives.TARGETS,
        *tables.TARGETS,
        *workdirs.TARGETS,
    )
}
