//! Writes the code of a derived type.
//!
//! Beside the item: its archived form. In an anonymous constant, so that no name is taken: rkyv's
//! `Archive`, `Serialize` and `Deserialize`, and the schema. Where a type is generic, bounds are put on
//! its parameters, never on its fields: a field may be of the very type that is being derived.

mod archived;
mod rkyv;
mod schema;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    GenericParam, Generics, Ident, Type, WherePredicate, ext::IdentExt, parse_quote, spanned::Spanned,
};

use crate::model::{Derive, Field, Model};

/// The only way to anything outside the core library.
fn private() -> TokenStream {
    quote!(::shmbus::__private)
}

pub fn generate(model: &Model) -> TokenStream {
    let schema = schema::schema(model);
    let alignment = alignment(model);
    let message = (model.derive == Derive::Message).then(|| message(model));
    if model.settings.manual {
        return quote! {
            const _: () = { #alignment #schema #message };
        };
    }
    let archived = archived::archived(model);
    let (check, debug) = (archived::check(model), archived::debug(model));
    let parts = rkyv::parts(model);
    let (archive, serialize, deserialize) = (
        rkyv::archive(model),
        rkyv::serialize(model),
        rkyv::deserialize(model),
    );
    quote! {
        #archived
        #[allow(private_interfaces, clippy::undocumented_unsafe_blocks)]
        const _: () = {
            #parts #archive #serialize #deserialize #check #debug #alignment #schema #message
        };
    }
}

fn message(model: &Model) -> TokenStream {
    let (private, ident) = (private(), &model.ident);
    let (impl_generics, ty_generics, clause) = model.generics.split_for_impl();
    let name = model.settings.name.as_ref().map_or_else(
        || {
            let name = ident.unraw().to_string();
            quote!(::core::concat!(::core::env!("CARGO_PKG_NAME"), "::", #name))
        },
        |name| quote!(#name),
    );
    // Everything about the reply has its place, for what may be wrong with it.
    let reply = model.settings.reply.as_ref().map(|reply| {
        let span = reply.span().resolved_at(Span::call_site());
        (span, quote_spanned!(span=> <#reply as #private::Whole>))
    });
    let alignment = reply.as_ref().filter(|_| model.generics.params.is_empty()).map(
        |(span, part)| quote_spanned!(*span=> const _: () = #private::assert_align::<#part::Archived>();),
    );
    let reply = reply.map_or_else(|| quote!(()), |(span, part)| quote_spanned!(span=> #part::This));
    quote! {
        #alignment
        #[automatically_derived]
        impl #impl_generics #private::ShmMessage for #ident #ty_generics #clause {
            const NAME: &'static str = #name;
            type Reply = #reply;
        }
    }
}

/// Refuses fields whose archived form is aligned to more than messages are. With type parameters that is only
/// known when they are, and `archive_into` refuses them.
fn alignment(model: &Model) -> TokenStream {
    if !model.generics.params.is_empty() {
        return TokenStream::new();
    }
    let (private, ident) = (private(), &model.ident);
    if model.settings.manual {
        return quote_spanned! {ident.span()=>
            const _: () = #private::assert_align::<<#ident as #private::rkyv::Archive>::Archived>();
        };
    }
    model
        .fields()
        .map(|field| {
            let archived = archived_type(field);
            quote_spanned!(field.span=> const _: () = #private::assert_align::<#archived>();)
        })
        .collect()
}

/// The name of the archived form.
fn archived_ident(model: &Model) -> Ident {
    let name = model.ident.unraw();
    format_ident!("Archived{name}", span = model.ident.span())
}

/// The archived form of a field's type.
fn archived_type(field: &Field) -> TokenStream {
    part(field, "Archived")
}

/// A type that rkyv has for a field's type. Every mention has the place of the field, so that the compiler tells
/// an error about it once.
fn part(field: &Field, name: &str) -> TokenStream {
    let (private, ty, name) = (private(), &field.ty, Ident::new(name, field.span));
    if field.opaque.is_some() {
        quote_spanned!(field.span=> <#ty as #private::rkyv::Archive>::#name)
    } else {
        quote_spanned!(field.span=> <#ty as #private::Part>::#name)
    }
}

/// The generics of a type with one more parameter in front and bounds on it and on each type parameter.
fn with_param(
    model: &Model,
    param: GenericParam,
    bounds: Vec<WherePredicate>,
    each: impl Fn(&Type) -> WherePredicate,
) -> Generics {
    let mut generics = model.generics.clone();
    let types: Vec<Type> = model
        .generics
        .type_params()
        .map(|it| &it.ident)
        .map(|it| parse_quote!(#it))
        .collect();
    generics.params.insert(0, param);
    let clause = generics.make_where_clause();
    clause.predicates.extend(bounds);
    clause.predicates.extend(types.iter().map(each));
    generics
}
