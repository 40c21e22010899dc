"""The screening pipeline: discover → read → locate → prepare → infer → decide → record."""
